"""Kernels that numba compiles on this machine, for what MLX and NumPy are slow at on a CPU.

Numba comes with the extra ``cpu``. Without it, and on processors that lack what the kernels need,
:func:`available` is false, :func:`reason` says why, and callers take their other form.

To add a kernel:

1. Write it in a module of this folder; a module may import numba at its top. Import that module
   only inside a function that has asked :func:`available`.
2. Decorate the function that Python calls with :func:`kernel`, and those that it calls with
   ``numba.njit``. A kernel holds no GIL. It takes arrays, integers (addresses included),
   :class:`~.formats.Format` objects, and no Python objects. ``fastmath=True`` lets the compiler
   change the order of sums: the result then depends on the processor.
3. Call ``kernel.compile(*types)`` once, by :func:`in_background` while a folder loads: a thread
   compiles, and whoever calls ``compile`` with the same types meanwhile waits for it. The code is
   kept in the user's cache folder, under a digest of the sources of this folder, so a change
   anywhere here compiles anew. Where the folder cannot be written, each process compiles.
4. Give it few signatures: the first one costs a second, each further one 0.2 to 0.6 s.

``vectors`` has what numba lacks: vectors of fixed width, fused products, atomic counters.
``products`` multiplies rows by weights as they are stored.
"""

from . import runtime
from .runtime import CannotCompileError, Kernel, in_background, kernel


def available() -> bool:
    """Whether kernels can be compiled here."""
    return runtime.reason() is None


def reason() -> str | None:
    """Why kernels cannot be compiled here, in words; None where they can."""
    return runtime.reason()


__all__ = ["CannotCompileError", "Kernel", "available", "in_background", "kernel", "reason"]
