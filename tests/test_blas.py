"""The choice of BLAS: what is found, what is bound, what is said when nothing is."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from mlx_audio_turbo.ops import blas
from mlx_audio_turbo.ops.blas import choose, elf, threads

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems keep MLX's own BLAS")


def run(code: str, choice: str | None = None, **environment: str) -> str:
    keep = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    keep.pop("MLX_AUDIO_TURBO_BLAS", None)
    if choice is not None:
        keep["MLX_AUDIO_TURBO_BLAS"] = choice
    done = subprocess.run(
        [sys.executable, "-c", code], env=keep | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


REPORT = (
    "from mlx_audio_turbo.ops import blas; s = blas.load(); print(s.description, '|', s.warning)"
)

PRODUCT = """
import numpy as np
import mlx.core as mx
mx.set_default_device(mx.cpu)
from mlx_audio_turbo.ops import blas
name = blas.load().description
a = mx.random.normal((384, 384), key=mx.random.key(1))
product = a @ a
exact = np.array(a, np.float64) @ np.array(a, np.float64)
assert np.abs(np.array(product) - exact).max() < 1e-4
print(name)
"""

# MLX is imported and at work before its imports are rewritten.
CALLS = """
import ctypes, threading
import mlx.core as mx
mx.set_default_device(mx.cpu)
a = mx.ones((8, 8))
mx.eval(a @ a)
from mlx_audio_turbo.ops.blas.elf import bind
seen = []
kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int] * 6)
spy = kind(lambda *arguments: seen.append(arguments[3:6]))
address = ctypes.cast(spy, ctypes.c_void_p).value
bind({b"cblas_sgemm": address}, needed=b"cblas_sgemm")
mx.eval(mx.ones((8, 24)) @ mx.ones((24, 16)))
print(seen)
"""


@linux
def test_products_reach_the_bound_function_though_mlx_was_imported_first() -> None:
    assert run(CALLS) == "[(8, 16, 24)]"


@linux
def test_products_are_right_when_mlx_was_imported_before_the_blas() -> None:
    assert run(PRODUCT, "openblas").startswith("OpenBLAS")


def test_importing_the_package_binds_nothing() -> None:
    assert run("import mlx_audio_turbo.ops.blas as b; print(b._state)") == "None"


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no ``os.sched_getaffinity``: a Mac on the CPU failed at the first sentence."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert threads.cores.__wrapped__() == os.cpu_count()


@linux
def test_the_openblas_of_scipy_is_found() -> None:
    assert run(REPORT, "openblas").startswith("OpenBLAS (libscipy_openblas")


@linux
def test_choosing_the_bundled_blas_gives_no_warning() -> None:
    for choice in ("off", "bundled"):
        assert run(REPORT, choice) == f"MLX's bundled (MLX_AUDIO_TURBO_BLAS={choice}) | None"


@linux
def test_unusable_choice_is_named_with_the_remedy() -> None:
    absent = run(REPORT, "/nowhere/libblas.so")
    assert "MLX_AUDIO_TURBO_BLAS=/nowhere/libblas.so cannot be used" in absent
    assert "pip install" in absent
    assert "no cblas_sgemm" in run(REPORT, "libm.so.6")


@linux
def test_thread_count_follows_the_environment_else_the_cores() -> None:
    assert "1 thread)" in run(REPORT, "openblas", OPENBLAS_NUM_THREADS="1")
    cores = blas.cores()
    assert 1 <= cores <= len(os.sched_getaffinity(0))
    assert f"{cores} thread" in run(REPORT, "openblas")


@linux
def test_nothing_found_leaves_the_bundled_one_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "candidates", lambda choice: iter(()))
    state = choose.choose_library("openblas")
    assert state.description == "MLX's bundled"
    assert state.warning is not None and "pip install" in state.warning


def test_wrong_library_is_refused() -> None:
    kind = ctypes.CFUNCTYPE(None)
    with pytest.raises(elf.Unfit, match="wrong result"):
        choose.check(kind(lambda: None))


@linux
def test_later_calls_return_the_first_outcome() -> None:
    assert blas.load() is blas.load()
    assert blas.active() == blas.load().description
    assert blas.warning() == blas.load().warning
