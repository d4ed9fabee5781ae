"""What MLX needs of the process: no fork after it has computed, and freed memory given back."""

from __future__ import annotations

import contextlib
import ctypes
import os

import mlx.core as mx

from ..errors import ProcessError

REMEDY = "load it in each worker, or start workers with the method 'spawn'"


class _Forks:
    """Whether MLX can work in this process after a fork."""

    computed = False
    unusable = False
    """MLX had computed before the fork: its threads are gone, and its locks block for ever."""

    @classmethod
    def before(cls) -> None:
        # Read in the parent: in the child the allocator may be locked.
        cls.computed = cls.unusable or mx.get_peak_memory() + mx.get_active_memory() > 0

    @classmethod
    def in_child(cls) -> None:
        cls.unusable = cls.computed


os.register_at_fork(before=_Forks.before, after_in_child=_Forks.in_child)


def check_usable() -> None:
    """Check that MLX can work in this process.

    Raises:
        ProcessError: it computed before this process was forked.
    """
    if _Forks.unusable:
        raise ProcessError(
            "MLX had computed in this process before it was forked, and its threads do not "
            f"survive that; {REMEDY}"
        )


def check_process(process: int) -> None:
    """Check that this process is the one of the number ``process``, where a model was loaded.

    Raises:
        ProcessError: it was forked from that one.
    """
    if os.getpid() != process:
        raise ProcessError(f"this model was loaded in another process, before a fork; {REMEDY}")


def release_memory() -> None:
    """Return freed memory to the system, when nothing refers to a model's weights any more.

    MLX caches freed buffers, and glibc keeps what ended threads have freed.
    """
    if _Forks.unusable:
        return
    mx.clear_cache()
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
