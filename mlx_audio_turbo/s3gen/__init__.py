"""Speech tokens and a voice to mel."""
