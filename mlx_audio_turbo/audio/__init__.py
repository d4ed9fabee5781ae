"""Arrays in, arrays out, no model."""
