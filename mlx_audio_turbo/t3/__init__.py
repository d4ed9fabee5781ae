"""Text ids and a voice to speech tokens."""
