"""Mel to samples."""
