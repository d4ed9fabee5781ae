"""A fast BLAS for MLX's CPU back end on Linux.

The Linux wheel of MLX carries the reference BLAS, about 60 times slower than OpenBLAS and MKL.
SciPy, a dependency, brings an OpenBLAS. :func:`load` opens the best library that it finds
(``choose``) and writes the addresses of its matrix products into libmlx's table of imported
functions (``elf``), as the dynamic linker does by name. It needs no environment variable, download
or compiler, changes no other module, and works whether or not ``mlx.core`` was imported before.
The package can go once MLX's wheel for Linux links a fast BLAS.

``MLX_AUDIO_TURBO_BLAS`` selects the library: ``mkl``, ``openblas``, ``bundled`` (or ``off``), or a
path. Nothing is imported or changed before :func:`load` is called.
"""

from __future__ import annotations

import os

from .choose import State, choose_library
from .threads import cores, one_thread

__all__ = ["State", "active", "cores", "library", "load", "one_thread", "warning"]

_state: State | None = None


def load() -> State:
    """Give MLX a fast BLAS, once; later calls return the first one's state. Never raises."""
    global _state
    if _state is None:
        _state = choose_library(
            os.path.expanduser(os.environ.get("MLX_AUDIO_TURBO_BLAS", "").strip())
        )
    return _state


def active() -> str:
    """The BLAS in use, such as "OpenBLAS (libscipy_openblas.so, 2 threads)"."""
    return load().description


def warning() -> str | None:
    """One line with the remedy when MLX's bundled BLAS is in use, else None."""
    return load().warning


def library() -> str | None:
    """The path of the library in use, as ``MLX_AUDIO_TURBO_BLAS`` takes it; None: the bundled."""
    return load().path
