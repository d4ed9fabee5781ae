"""What the device that runs new work is good at, and work cut to suit it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from functools import cache

import mlx.core as mx

# Values in one block of an elementwise chain: its few arrays of 1 MB stay in the caches, and so do
# MLX's buffers, so that no page is fetched anew from the system. Smaller ones cost more in MLX's
# 6 µs a primitive than they save: S3Gen and HiFT for 10 s took 8.8, 6.8, 5.6, 5.3 and 6.6 s with
# blocks of 2 ** 16 to 2 ** 20, where two cores have 2 MB and 32 MB of cache.
BLOCK = 1 << 18


def on_gpu() -> bool:
    """Whether new work goes to a GPU."""
    return mx.default_device().type == mx.DeviceType.gpu


@cache
def _plain_x86() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def slow_functions(x: mx.array) -> bool:
    """Whether MLX's own exp, tanh, erf, sin and softmax are the slow part of work on ``x``.

    MLX's wheel for x86-64 computes them value by value, each step of a polynomial a function call:
    35 to 100 M values/s, where a power takes 210 and a sum or product 5,000. On a GPU and on ARM
    they are vectorised. Half precision is no format of the CPU and keeps MLX's forms.
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
        # Else MLX walks through the blocks side by side, and all are in memory at once.
        parts.append(function(mx.depends([block], parts[-1:])[0] if parts else block))
    return mx.concatenate(parts).reshape(x.shape)
