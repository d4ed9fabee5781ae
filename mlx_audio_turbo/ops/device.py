"""Which device runs new work, and what is slow on it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from functools import cache

import mlx.core as mx

BLOCK = 1 << 18
"""Values in one block of an elementwise chain.

The few arrays of a chain, 1 MB each, then stay in the caches, and MLX reuses their buffers. Smaller
blocks lose more to MLX's cost per primitive than they gain.
"""


def on_gpu() -> bool:
    """Whether new work goes to a GPU."""
    return mx.default_device().type == mx.DeviceType.gpu


@cache
def _plain_x86() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def slow_functions(x: mx.array) -> bool:
    """Whether MLX's exp, tanh, erf, sin and softmax dominate the time of work on ``x``.

    MLX's wheel for x86-64 computes them value by value. A power is 2 to 6 times, a sum or product
    50 to 100 times as fast. On a GPU and on ARM they are vectorised. Half precision is no native
    format of the CPU and keeps MLX's forms.
    """
    return not on_gpu() and x.dtype == mx.float32 and _plain_x86()


def in_blocks(function: Callable[[mx.array], mx.array], x: mx.array) -> mx.array:
    """``function``, elementwise over all but the last axis, over blocks of ``x`` one by one."""
    flat = x.reshape(-1, x.shape[-1])
    count = round(x.size / BLOCK)
    if count < 2:
        return function(x)
    rows = -(-flat.shape[0] // count)
    parts: list[mx.array] = []
    for start in range(0, flat.shape[0], rows):
        block = flat[start : start + rows]
        # Without the dependency MLX computes the blocks side by side, all in memory at once.
        parts.append(function(mx.depends([block], parts[-1:])[0] if parts else block))
    return mx.concatenate(parts).reshape(x.shape)
