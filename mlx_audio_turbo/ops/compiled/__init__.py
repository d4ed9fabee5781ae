"""Kernels that numba compiles on this machine, for what MLX and NumPy are slow at on a CPU.

Numba comes with the extra ``cpu``. Without it, and on processors that lack what the kernels need,
:func:`available` is false, :func:`reason` says why, and callers take their other form.

To add a kernel:

1. Write it in a module of this folder; a module may import numba at its top. Import that module
   only inside a function that has asked :func:`available`.
2. Decorate the function that Python calls with :func:`kernel`. A kernel holds no GIL. It takes
   arrays, integers (addresses included), :class:`~.formats.Format` objects, and no Python objects.
   ``fastmath=True`` lets the compiler change the order of sums: the result then depends on the
   processor.
3. Keep it quick to compile: decorate what it calls with ``parts.part``, pass on addresses, not
   arrays or tuples, and read tables with ``words.entry``. A function of numba's own, such as
   ``min``, takes 30 ms. Give it few signatures.
4. Name it in ``wanted`` of its module, with the types of its arguments. A :class:`Job` compiles
   what a module wants: :func:`in_background` begins while a folder loads, in a thread or in other
   processes, and :func:`compile_jobs` waits for it, or compiles. The code is kept in the user's
   cache folder, under a digest of the sources of this folder, so a change anywhere here compiles
   anew. Where the folder cannot be written, each process compiles.

``vectors`` has what numba lacks: vectors of fixed width, fused products, atomic counters.
``products`` multiplies rows by weights as they are stored.
"""

from . import runtime
from .ahead import Job, compile_jobs, in_background
from .runtime import CannotCompileError, Kernel, kernel


def available() -> bool:
    """Whether kernels can be compiled here."""
    return runtime.reason() is None


def reason() -> str | None:
    """Why kernels cannot be compiled here, in words; None where they can."""
    return runtime.reason()


__all__ = [
    "CannotCompileError",
    "Job",
    "Kernel",
    "available",
    "compile_jobs",
    "in_background",
    "kernel",
    "reason",
]
