"""Which device runs new work, and what is slow on it."""

from __future__ import annotations

import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import mlx.core as mx

P = ParamSpec("P")
R = TypeVar("R")
BLOCK = 1 << 18
"""Values in one block of an elementwise chain.

The few arrays of a chain, 1 MB each, then stay in the caches, and MLX reuses their buffers. Smaller
blocks lose more to MLX's cost per primitive than they gain.
"""


_FORCED = os.environ.get("MLX_AUDIO_TURBO_FORCE_GPU_PATH", "0")
"""For developers: 1 or ``metal``, or ``cuda``, runs that back end's code path on any device."""
# MLX reads these at its first convolution or product. A plan of cuDNN is made for each shape, and
# MLX raises once a process has seen twice as many as its caches hold, though old ones can go.
# Products of float32 in TF32 have the precision of float16: F0, the encoders and the vocoder are
# float32 because that does not suffice.
_MLX_DEFAULTS = {
    "MLX_ENABLE_CACHE_THRASHING_CHECK": "0",
    "MLX_CUDA_CONV_CACHE_SIZE": "1024",
    "MLX_CUDA_SDPA_CACHE_SIZE": "1024",
    "MLX_ENABLE_TF32": "0",
}
for _name, _value in _MLX_DEFAULTS.items():
    os.environ.setdefault(_name, _value)

_own = threading.local()
_pins = threading.Condition()
_pinned: list[mx.Device] = []
_default: list[mx.Device] = []


@contextmanager
def pinned(device: mx.Device) -> Iterator[None]:
    """All new work of this thread inside goes to ``device``.

    MLX's default device is the process's: another thread that sets it, or uses ``with mx.stream``,
    changes it for all. Inside, it is set again and :func:`on_gpu` asks the thread's own. Threads
    that pin different devices take turns. The last to leave restores the default.
    """
    with _pins:
        _pins.wait_for(lambda: not _pinned or _pinned[0] == device)
        if not _pinned:
            _default[:] = [mx.default_device()]
        _pinned.append(device)
        mx.set_default_device(device)
    before, _own.device = getattr(_own, "device", None), device
    try:
        yield
    finally:
        _own.device = before
        with _pins:
            _pinned.remove(device)
            # Unless the application has chosen another meanwhile.
            if not _pinned and mx.default_device() == device:
                mx.set_default_device(_default[0])
            _pins.notify_all()


def device() -> mx.Device:
    """The device of this thread's new work."""
    return getattr(_own, "device", None) or mx.default_device()


def on_gpu() -> bool:
    """Whether this thread's new work takes the form for a GPU."""
    return _FORCED != "0" or device().type == mx.DeviceType.gpu


def on_cuda() -> bool:
    """Whether that GPU is CUDA's, and not Metal's."""
    return on_gpu() and (_FORCED == "cuda" or (_FORCED == "0" and mx.cuda.is_available()))


def gpu_memory() -> int:
    """Bytes of the GPU's memory, on a Mac all of the machine's; 0 where MLX does not say."""
    info = mx.device_info(device())
    return int(info.get("memory_size") or info.get("total_memory") or 0)


def fused(
    *, shapeless: bool = False, long: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Run the decorated function as few kernels on a GPU: a chain of elementwise operations is one.

    For the CPU, MLX would need a compiler, and the function runs as it is. CUDA takes about five
    seconds to compile each such kernel, the first time that a machine needs it: there only chains
    of many operations are compiled.

    Args:
        shapeless: one compilation serves all shapes; not every operation can.
        long: the chain is worth those seconds.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        compiled = mx.compile(function, shapeless=shapeless)

        @wraps(function)
        def suited(*args: P.args, **kwargs: P.kwargs) -> R:
            takes = on_gpu() and (long or not on_cuda())
            return (compiled if takes else function)(*args, **kwargs)

        return suited

    return decorate


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
