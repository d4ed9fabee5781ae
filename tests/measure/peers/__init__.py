"""Other implementations of the model, timed in their own environments. See ``__main__``."""
