"""Which BLAS library MLX gets: the candidates, a test product, and the state to report."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .elf import Unfit, bind
from .threads import cores

_FUNCTIONS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
_PREFIXES = ("", "scipy_")
_THREADS_CHOSEN = {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
_REMEDY = (
    "Matrix products use the BLAS inside MLX's wheel, about 60 times slower than OpenBLAS: "
    "`pip install scipy` or `pip install mkl` brings a fast one"
)
_kept: list[ctypes.CDLL] = []  # bound libraries stay loaded


@dataclass(frozen=True)
class State:
    """The result of choosing.

    warning: one line with the remedy where products stay slow.
    path: of the library that MLX was given, None for its own.
    """

    description: str
    warning: str | None = None
    path: str | None = None


def choose_library(choice: str) -> State:
    """Give MLX the library of this name, or the best one where the name is empty."""
    if sys.platform != "linux":
        return State("Accelerate" if sys.platform == "darwin" else "MLX's own")
    if choice in ("off", "bundled"):
        return State(f"MLX's bundled (MLX_AUDIO_TURBO_BLAS={choice})")
    try:
        import mlx.core as mx
    except ImportError:  # the caller's own import of MLX reports what to install
        return State("none: MLX is not installed")
    if mx.default_device().type == mx.DeviceType.gpu and not choice:
        return State("MLX's bundled: the GPU computes the products")
    reason = ""
    for path in candidates(choice):
        try:
            return State(_use(path), path=path)
        except (OSError, Unfit) as error:
            reason = f" ({Path(path).name}: {error})"
    asked = f"MLX_AUDIO_TURBO_BLAS={choice} cannot be used{reason}. " if choice else ""
    return State("MLX's bundled", asked + _REMEDY)


def candidates(choice: str) -> Iterator[str]:
    """Library paths and names, best first: MKL reads weights faster for products of few rows."""
    if choice and choice not in ("mkl", "openblas"):
        yield choice
        return
    if choice != "openblas":
        for folder in (Path(sys.prefix, "lib"), Path(sysconfig.get_path("data"), "lib")):
            yield from map(str, sorted(folder.glob("libmkl_rt.so*")))
    if choice != "mkl":
        scipy = importlib.util.find_spec("scipy")
        if scipy is not None and scipy.origin is not None:
            beside = Path(scipy.origin).parent.with_name("scipy.libs")
            yield from map(str, sorted(beside.glob("libscipy_openblas*.so")))
        yield from ("libopenblas.so.0", "libopenblas.so")


def _use(path: str) -> str:
    """Bind the library at ``path``; gives its description."""
    library = ctypes.CDLL(path)
    for prefix in _PREFIXES:
        if hasattr(library, prefix + _FUNCTIONS[0]):
            break
    else:
        raise Unfit("no cblas_sgemm with 32-bit integers")
    check(library[prefix + _FUNCTIONS[0]])
    addresses = {
        name.encode(): ctypes.cast(library[prefix + name], ctypes.c_void_p).value or 0
        for name in _FUNCTIONS
        if hasattr(library, prefix + name)
    }
    bind(addresses, needed=_FUNCTIONS[0].encode())
    _kept.append(library)
    name = Path(path).name
    if "mkl" in name:
        return f"MKL ({name})"
    if not hasattr(library, f"{prefix}openblas_set_num_threads"):
        return name
    if not _THREADS_CHOSEN & set(os.environ):
        # One thread a core. By default OpenBLAS starts one a hyperthread, and in a container one
        # for each of the host's.
        library[f"{prefix}openblas_set_num_threads"](cores())
    threads = library[f"{prefix}openblas_get_num_threads"]()
    return f"OpenBLAS ({name}, {threads} thread{'s' if threads != 1 else ''})"


def check(sgemm: Callable[..., object]) -> None:
    """Raise :class:`Unfit` unless [[1, 2, 3], [4, 5, 6]] times its transpose is right."""
    a = (ctypes.c_float * 6)(1, 2, 3, 4, 5, 6)
    c = (ctypes.c_float * 4)()
    row_major, plain, transposed = 101, 111, 112
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    sgemm(row_major, plain, transposed, 2, 2, 3, one, a, 3, a, 3, zero, c, 2)
    if list(c) != [14, 32, 32, 77]:
        raise Unfit("wrong result of a test product")
