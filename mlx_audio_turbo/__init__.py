"""Chatterbox Turbo on MLX: text and a reference clip in, 24 kHz speech out."""
