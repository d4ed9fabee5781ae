"""A name or a folder to networks that are ready to run."""
