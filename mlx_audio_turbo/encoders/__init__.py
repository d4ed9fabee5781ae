"""A clip to a voice."""
