"""Checkpoints of random weights in the published layout, for tests and measuring."""
