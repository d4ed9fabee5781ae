"""Word error rates of a model's speech, by a speech recogniser: ``make listen``."""
