"""Random numbers by position.

The same seed and frame give the same values, however the frames are cut into windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx

from ..config import SAMPLES_PER_FRAME

BLOCK = 64
"""Frames that share one random key. A window computes whole blocks and cuts them."""


def fold(key: mx.array, index: int) -> mx.array:
    """A random key for ``index``, derived from ``key``."""
    return mx.random.split(key + mx.array([0, index], mx.uint32))[0]


def frame_normal(key: mx.array, start: int, frames: int, width: int) -> mx.array:
    """Standard normal values (frames, width) of the frames from ``start`` on."""
    first, last = start // BLOCK, -(-(start + frames) // BLOCK)
    blocks = [mx.random.normal((BLOCK, width), key=fold(key, i)) for i in range(first, last)]
    offset = start - first * BLOCK
    return mx.concatenate(blocks)[offset : offset + frames]


@dataclass(frozen=True)
class NoiseSource:
    """All random numbers of one utterance's rendering, from one key (2,)."""

    key: mx.array

    def flow(self, start: int, frames: int, mels: int) -> mx.array:
        """(1, frames, mels): the solver's initial state, of the frames from ``start`` on."""
        return frame_normal(fold(self.key, 0), start, frames, mels)[None]

    def phases(self, harmonics: int) -> mx.array:
        """(1, harmonics + 1) in ±π: initial phases of the source, zero for the fundamental."""
        drawn = mx.random.uniform(-math.pi, math.pi, (1, harmonics), key=fold(self.key, 1))
        return mx.concatenate([mx.zeros((1, 1)), drawn], axis=1)

    def source(self, start: int, frames: int, harmonics: int) -> mx.array:
        """(1, samples, harmonics + 1): noise of the source, of the frames from ``start`` on."""
        width = SAMPLES_PER_FRAME * (harmonics + 1)
        drawn = frame_normal(fold(self.key, 2), start, frames, width)
        return drawn.reshape(1, frames * SAMPLES_PER_FRAME, harmonics + 1)
