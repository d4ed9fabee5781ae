"""A fast BLAS for MLX's CPU back end on Linux.

The Linux wheel of MLX carries the reference BLAS: 4 GFLOP/s on two cores where OpenBLAS and MKL
give 300. SciPy, which librosa depends on, brings an OpenBLAS of its own, so a fast one is always
at hand; only its names differ. ``load`` therefore opens the best library that it finds and writes
the addresses of its matrix products over those in libmlx's table of imported functions: what the
dynamic linker does by name. No environment variable, no download, no compiler, no effect on other
modules, and no matter whether ``mlx.core`` was imported before.

``MLX_AUDIO_TURBO_BLAS`` chooses: ``mkl``, ``openblas``, ``bundled`` (or ``off``), or a library's
path. This module imports neither MLX nor NumPy by itself.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FUNCTIONS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")
_PREFIXES = ("", "scipy_")
_THREADS_CHOSEN = {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"}
_THREAD_FUNCTIONS = [
    (f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}")
    for prefix in _PREFIXES
    for suffix in ("", "64_")
] + [("MKL_Get_Max_Threads", "MKL_Set_Num_Threads")]
_REMEDY = (
    "Matrix products use the BLAS inside MLX's wheel, about 60 times slower than OpenBLAS: "
    "`pip install scipy` or `pip install mkl` brings a fast one"
)
# ELF constants: keys of the dynamic section, and the size of an entry with addend.
_PLTRELSZ, _STRTAB, _SYMTAB, _RELA, _RELASZ, _JMPREL = 2, 5, 6, 7, 8, 23
_RELA_ENTRY, _SYMBOL_BYTES = struct.Struct("<QQq"), 24


@dataclass(frozen=True)
class State:
    """What ``load`` came to: a description, and a warning when products stay slow."""

    description: str
    warning: str | None = None


_state: State | None = None
_kept: list[ctypes.CDLL] = []  # bound libraries stay loaded
_counting = threading.Lock()
_inside = 0
_threads_before: list[int] = []


def load() -> State:
    """Give MLX a fast BLAS, once; later calls return the first one's outcome. Never raises."""
    global _state
    if _state is None:
        _state = _load(os.path.expanduser(os.environ.get("MLX_AUDIO_TURBO_BLAS", "").strip()))
    return _state


def active() -> str:
    """The BLAS in use, for people: such as "OpenBLAS (libscipy_openblas.so, 2 threads)"."""
    return load().description


def warning() -> str | None:
    """One line with the remedy when only MLX's bundled BLAS is in use, else None."""
    return load().warning


def library() -> str | None:
    """The path of the library in use, for ``MLX_AUDIO_TURBO_BLAS``; None for the bundled one."""
    load()
    return _kept[-1]._name if _kept else None


@contextmanager
def one_thread() -> Iterator[None]:
    """Products inside, MLX's and NumPy's, take one thread each: for work that runs on several.

    The numbers are the whole process's: the first to come sets them, the last to go restores them.
    """
    global _inside
    with _counting:
        if not _inside:
            _threads_before[:] = [library.read() for library in _libraries()]
            for library in _libraries():
                library.write(1)
        _inside += 1
    try:
        yield
    finally:
        with _counting:
            _inside -= 1
            if not _inside:
                for library, threads in zip(_libraries(), _threads_before, strict=True):
                    library.write(threads)


@dataclass(frozen=True)
class _Threads:
    """How to read and set the number of a BLAS library's threads."""

    read: Callable[[], int]
    write: Callable[[int], object]


@cache
def _libraries() -> list[_Threads]:
    """Every BLAS that the process has loaded by now and whose threads can be set.

    threadpoolctl finds them. It sets them too, but for the first thread that asks it to and for no
    other, and an engine is a thread of its own.
    """
    import threadpoolctl  # only a model at work wants it

    found = []
    for each in threadpoolctl.threadpool_info():
        library = ctypes.CDLL(each["filepath"])
        for read, write in _THREAD_FUNCTIONS:
            if hasattr(library, write):
                found.append(_Threads(library[read], library[write]))
                break
    return found


def _load(choice: str) -> State:
    if sys.platform != "linux":
        return State("Accelerate" if sys.platform == "darwin" else "MLX's own")
    if choice in ("off", "bundled"):
        return State(f"MLX's bundled (MLX_AUDIO_TURBO_BLAS={choice})")
    try:
        import mlx.core as mx
    except ImportError:  # the caller's own import tells what to install
        return State("none: MLX is not installed")
    if mx.default_device().type == mx.DeviceType.gpu and not choice:
        return State("MLX's bundled: the GPU does the products")
    reason = ""
    for path in _candidates(choice):
        try:
            return State(_use(path))
        except (OSError, _Unfit) as error:
            reason = f" ({Path(path).name}: {error})"
    asked = f"MLX_AUDIO_TURBO_BLAS={choice} cannot be used{reason}. " if choice else ""
    return State("MLX's bundled", asked + _REMEDY)


class _Unfit(Exception):
    """A library that lacks a function or computes it wrongly."""


def _candidates(choice: str) -> Iterator[str]:
    """Library paths and names, best first: for rows that stream weights MKL reads twice as fast."""
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
    library = ctypes.CDLL(path)
    for prefix in _PREFIXES:
        if hasattr(library, prefix + _FUNCTIONS[0]):
            break
    else:
        raise _Unfit("no cblas_sgemm with 32-bit integers")
    _check(library[prefix + _FUNCTIONS[0]])
    addresses = {
        name.encode(): ctypes.cast(library[prefix + name], ctypes.c_void_p).value or 0
        for name in _FUNCTIONS
        if hasattr(library, prefix + name)
    }
    _bind(addresses)
    _kept.append(library)
    name = Path(path).name
    if "mkl" in name:
        return f"MKL ({name})"
    if not hasattr(library, f"{prefix}openblas_set_num_threads"):
        return name
    if not _THREADS_CHOSEN & set(os.environ):
        # One thread for each core: left alone, OpenBLAS starts one for each hyperthread, and in a
        # container one for each of the host's.
        library[f"{prefix}openblas_set_num_threads"](cores())
    threads = library[f"{prefix}openblas_get_num_threads"]()
    return f"OpenBLAS ({name}, {threads} thread{'s' if threads != 1 else ''})"


def _check(sgemm: Callable[..., object]) -> None:
    """Raise ``_Unfit`` unless [[1, 2, 3], [4, 5, 6]] times its transpose comes out right."""
    a = (ctypes.c_float * 6)(1, 2, 3, 4, 5, 6)
    c = (ctypes.c_float * 4)()
    row_major, plain, transposed = 101, 111, 112
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    sgemm(row_major, plain, transposed, 2, 2, 3, one, a, 3, a, 3, zero, c, 2)
    if list(c) != [14, 32, 32, 77]:
        raise _Unfit("wrong result of a test product")


def _bind(addresses: dict[bytes, int]) -> None:
    """Point libmlx's imports of the named functions to ``addresses``."""
    package = importlib.util.find_spec("mlx")
    folders = package.submodule_search_locations if package is not None else None
    paths = [path for folder in folders or () for path in Path(folder).glob("lib*/libmlx.so")]
    if not paths:
        raise _Unfit("libmlx.so not found")
    # A handle of dlopen starts with the load address, the name and the dynamic section (link.h).
    handle = ctypes.CDLL(str(paths[0]))._handle
    base, _, dynamic = struct.unpack("<QQQ", ctypes.string_at(handle, 24))
    tags: dict[int, int] = {}
    while (entry := struct.unpack("<QQ", ctypes.string_at(dynamic, 16)))[0]:
        tags[entry[0]] = entry[1]
        dynamic += 16

    def at(tag: int) -> int:  # glibc has added the load address, musl has not
        return tags[tag] if tags[tag] >= base else tags[tag] + base

    bound = set()
    for table, size in ((_JMPREL, _PLTRELSZ), (_RELA, _RELASZ)):
        if table not in tags:
            continue
        for offset, info, _ in _RELA_ENTRY.iter_unpack(ctypes.string_at(at(table), tags[size])):
            if not (symbol := info >> 32):
                continue
            entry = ctypes.string_at(at(_SYMTAB) + symbol * _SYMBOL_BYTES, 4)
            name = ctypes.string_at(at(_STRTAB) + int.from_bytes(entry, "little"))
            if name in addresses:
                _write(base + offset, addresses[name])
                bound.add(name)
    if _FUNCTIONS[0].encode() not in bound:
        raise _Unfit("libmlx does not import cblas_sgemm")


def _write(address: int, value: int) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    readable_writable = 3
    libc = ctypes.CDLL(None, use_errno=True)
    # The table may have been made read-only once the linker had filled it.
    start = ctypes.c_void_p(address - address % page)
    if libc.mprotect(start, ctypes.c_size_t(page), readable_writable):
        raise OSError(ctypes.get_errno(), "mprotect")
    ctypes.c_uint64.from_address(address).value = value


@cache
def cores() -> int:
    """Physical cores that this process may use, by its affinity and its container's quota."""
    usable = os.sched_getaffinity(0)
    siblings = set()
    for cpu in usable:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(topology.read_text() if topology.exists() else str(cpu))
    quota = Path("/sys/fs/cgroup/cpu.max")
    limit, _, period = (quota.read_text() if quota.exists() else "max").strip().partition(" ")
    allowed = len(usable) if limit == "max" else max(1, int(limit) // int(period))
    return min(len(siblings), allowed)
