"""Model folders: from the published checkpoint and from other converters; not used at run time."""
