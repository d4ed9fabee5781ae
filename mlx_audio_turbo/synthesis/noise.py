"""Random numbers by position.

The same seed and frame give the same values, however the frames are cut into windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import mlx.core as mx

from ..config import SAMPLES_PER_FRAME

BLOCK = 64
"""Frames that share one random key. A window computes whole blocks and cuts them."""

Blocks = dict[tuple[int, int], mx.array]
"""By index and width."""
OVERLAP = 16
"""Frames at the end of a window that the next one has at its start."""


def fold(key: mx.array, index: int) -> mx.array:
    """A random key for ``index``, derived from ``key``."""
    return mx.random.split(key + mx.array([0, index], mx.uint32))[0]


def frame_normal(
    key: mx.array, start: int, frames: int, width: int, kept: Blocks | None = None
) -> mx.array:
    """Standard normal values (frames, width) of the frames from ``start`` on.

    Args:
        kept: the last blocks of the call before, which had this key; becomes those of this one.
    """
    first, last = start // BLOCK, -(-(start + frames) // BLOCK)
    known = {} if kept is None else kept
    blocks = {
        (i, width): known[i, width]
        if (i, width) in known
        else mx.random.normal((BLOCK, width), key=fold(key, i))
        for i in range(first, last)
    }
    if kept is not None:
        kept.clear()
        least = start + frames - OVERLAP
        kept.update({at: each for at, each in blocks.items() if (at[0] + 1) * BLOCK > least})
    offset = start - first * BLOCK
    return mx.concatenate([*blocks.values()])[offset : offset + frames]


@dataclass(frozen=True)
class NoiseSource:
    """All random numbers of one utterance's rendering, from one key (2,)."""

    key: mx.array
    _last: Blocks = field(init=False, default_factory=dict, compare=False, repr=False)

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
        drawn = frame_normal(fold(self.key, 2), start, frames, width, self._last)
        return drawn.reshape(1, frames * SAMPLES_PER_FRAME, harmonics + 1)
