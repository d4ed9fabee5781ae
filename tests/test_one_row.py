"""One row times a weight: handed on to the product of matrix and vector, and right."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from mlx_audio_turbo import one_row
from mlx_audio_turbo.one_row import one_row_first

x86 = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="made for Linux on x86-64"
)
GEMM = ctypes.CFUNCTYPE(None, *[ctypes.c_int] * 6, *one_row._AFTER_SIZES)
GEMV = ctypes.CFUNCTYPE(
    None,
    *[ctypes.c_int] * 4,
    ctypes.c_float,
    *(ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_int),
    ctypes.c_float,
    *(ctypes.c_void_p, ctypes.c_int),
)

# Rows, depths and columns on both sides of the border; both layouts; with a bias; in a batch.
PRODUCTS = """
import numpy as np
import mlx_audio_turbo
import mlx.core as mx
mx.set_default_device(mx.cpu)
def near(found, exact):
    assert np.abs(np.array(found) - exact).max() < 1e-3, (np.array(found).shape, exact.shape)
SHAPES = ((1024, 3072), (4096, 1024), (64, 700), (1024, 6563), (512, 512), (3, 2))
for rows in (1, 2, 5):
    for depth, columns in SHAPES:
        x, w = mx.random.normal((rows, depth)), mx.random.normal((columns, depth))
        b = mx.random.normal((columns,))
        exact = np.array(x, np.float64) @ np.array(w, np.float64).T
        for _ in range(2):  # into memory that was used before
            near(x @ w.T, exact)
            near(x @ mx.contiguous(w.T), exact)
            near(mx.addmm(b, x, w.T), exact + np.array(b))
        parts = [mx.concatenate([x, 2 * x])[::rows][:2, None], mx.stack([w, w]).swapaxes(1, 2)]
        near((parts[0] @ parts[1])[0], exact[:1])
print("right")
"""


@x86
@pytest.mark.parametrize("threads", ["1", "2"])
def test_products_are_right_on_either_side_of_the_border(threads: str) -> None:
    environment = os.environ | {
        "MLX_AUDIO_TURBO_BLAS": "openblas",
        "OPENBLAS_NUM_THREADS": threads,
    }
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "right", done.stderr


def address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # pyright: ignore[reportArgumentType]


def watched(gemv_too: bool) -> tuple[list[str], Callable[..., None], Callable[..., None]]:
    """A plain product of matrices, one of matrix and vector, and a note of who was called."""
    calls: list[str] = []

    def gemm(order: int, ta: int, tb: int, m: int, n: int, k: int, *rest: float) -> None:
        calls.append("gemm")
        alpha, a, lda, b, ldb, beta, c, ldc = rest
        x, y, out = (ctypes.cast(int(p), ctypes.POINTER(ctypes.c_float)) for p in (a, b, c))
        for row in range(m):
            for column in range(n):
                if n > 300 and (row, column) not in ((0, 0), (0, 257), (m - 1, n - 1)):
                    continue
                step, start = (int(ldb), column) if tb == 111 else (1, column * int(ldb))
                at = int(row * ldc) + column
                total = sum(x[int(row * lda) + i] * y[start + i * step] for i in range(k))
                out[at] = alpha * total + (beta * out[at] if beta else 0)

    def gemv(order: int, trans: int, m: int, n: int, alpha: float, *rest: float) -> None:
        calls.append("gemv")
        a, lda, x, _, beta, y, _ = rest
        if gemv_too:
            columns, depth = (m, n) if trans == 111 else (n, m)
            transposed = 112 if trans == 111 else 111
            gemm(101, 111, transposed, 1, columns, depth, alpha, x, depth, a, lda, beta, y, columns)
            calls.pop()

    return calls, gemm, gemv


@x86
def test_one_row_of_a_large_product_is_handed_on_and_nothing_else() -> None:
    calls, gemm, gemv = watched(True)
    kept = GEMM(gemm), GEMV(gemv)
    first = one_row_first(address(kept[0]), address(kept[1]))
    assert first is not None
    call = GEMM(first)
    a, b, c = (
        (ctypes.c_float * (1 << 11))(),
        (ctypes.c_float * (1 << 19))(),
        (ctypes.c_float * 2048)(),
    )
    for expected, sizes in (
        ("gemv", (111, 112, 1, 512, 512)),
        ("gemv", (111, 111, 1, 512, 512)),
        ("gemm", (111, 112, 1, 511, 512)),
        ("gemm", (111, 112, 2, 512, 512)),
        ("gemm", (112, 112, 1, 512, 512)),
    ):
        calls.clear()
        call(101, *sizes, 1.0, a, 512, b, 512, 0.0, c, 512)
        assert calls == [expected]


@x86
def test_a_wrong_product_is_not_used() -> None:
    _, gemm, gemv = watched(False)
    kept = GEMM(gemm), GEMV(gemv)
    assert one_row_first(address(kept[0]), address(kept[1])) is None


def test_other_machines_keep_the_product_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_row.platform, "machine", lambda: "aarch64")
    assert one_row_first(1, 2) is None


@x86
def test_where_no_memory_may_be_run_the_product_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(one_row.mmap, "mmap", refused)
    assert one_row_first(1, 2) is None
