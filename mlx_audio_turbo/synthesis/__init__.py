"""Segments of text and a voice to audio: one thread, one loop."""
