"""Random numbers that belong to a position: the same seed and frame give the same values, however
the frames are cut into windows."""

from __future__ import annotations

import mlx.core as mx

BLOCK = 64
"""Frames that share one key; a window draws whole blocks and cuts."""


def fold(key: mx.array, index: int) -> mx.array:
    """A key of its own for ``index``, hashed from ``key``."""
    mixed = mx.random.bits((2,), key=key + mx.array([0, index], mx.uint32))
    return mixed.astype(mx.uint32)


def frame_normal(key: mx.array, start: int, frames: int, width: int) -> mx.array:
    """Normal values (frames, width) of the frames from ``start`` on."""
    first, last = start // BLOCK, -(-(start + frames) // BLOCK)
    blocks = [mx.random.normal((BLOCK, width), key=fold(key, i)) for i in range(first, last)]
    offset = start - first * BLOCK
    return mx.concatenate(blocks)[offset : offset + frames]
