"""What both sides of the vocoder's parity hand to it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

SAMPLES_PER_FRAME = 480
SINES = 9


class Random(Protocol):
    def random(self, *shape: int, seed: int, scale: float = 1.0) -> np.ndarray: ...


def random_numbers(context: Random, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Start phases (1, sines) in radians, 0 for the fundamental, and noise (1, samples, sines)."""
    phases = context.random(1, SINES, seed=401, scale=1.5)
    phases[:, 0] = 0
    return phases, context.random(1, frames * SAMPLES_PER_FRAME, SINES, seed=402)
