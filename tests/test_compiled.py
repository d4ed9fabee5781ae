"""Compiled kernels: where they run, where their code is kept, and products over stored weights."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.ops.compiled import place, runtime

needs_numba = pytest.mark.skipif(not compiled.available(), reason=str(compiled.reason()))

FORMATS = [(8, 64, mx.float16), (4, 32, mx.bfloat16), (6, 128, mx.float32), (0, 0, mx.bfloat16)]


def layer_of(bits: int, group: int, dtype: mx.Dtype, outputs: int, inputs: int) -> nn.Module:
    """A layer without bias, and its weights in float32."""
    layer = nn.Linear(inputs, outputs, bias=False)
    layer.weight = mx.random.normal((outputs, inputs), key=mx.random.key(1))
    if not bits:
        layer.weight = layer.weight.astype(dtype)
        return layer
    quantised = nn.QuantizedLinear.from_linear(layer, group, bits)
    for part in ("scales", "biases"):
        quantised[part] = quantised[part].astype(dtype)
    return quantised


def expanded(layer: nn.Module) -> np.ndarray:
    if not isinstance(layer, nn.QuantizedLinear):
        return np.array(layer["weight"].astype(mx.float32), np.float64)
    weights = mx.dequantize(
        layer.weight,
        *(layer[part].astype(mx.float32) for part in ("scales", "biases")),
        group_size=layer.group_size,
        bits=layer.bits,
    )
    return np.array(weights, np.float64)


@needs_numba
@pytest.mark.parametrize(("bits", "group", "dtype"), FORMATS)
def test_a_product_is_that_of_the_expanded_weights(bits: int, group: int, dtype: mx.Dtype) -> None:
    """Catches an order of codes, a scale of the wrong group, and a block beyond the last output."""
    from mlx_audio_turbo.ops.compiled.matrices import Matrix

    layer = layer_of(bits, group, dtype, outputs=67, inputs=256)
    matrix = Matrix.of(layer)  # pyright: ignore[reportArgumentType]
    assert matrix is not None and np.shares_memory(matrix.weights, Matrix.of(layer).weights)  # pyright: ignore
    x = np.random.default_rng(2).standard_normal((5, 256)).astype(np.float32)
    found = matrix.times(x)
    theirs = x @ expanded(layer).T
    assert np.linalg.norm(found - theirs) / np.linalg.norm(theirs) < 5e-7
    alone = np.concatenate([matrix.times(row[None]) for row in x])
    np.testing.assert_array_equal(found, alone)


def test_without_numba_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.importlib.util, "find_spec", lambda name: None)
    assert "pip install" in str(runtime.reason.__wrapped__())
    monkeypatch.setenv(runtime.SWITCH, "off")
    assert str(runtime.reason.__wrapped__()) == "MLX_AUDIO_TURBO_COMPILED is off"


def add_one(x):  # pyright: ignore
    return x + 1


@needs_numba
@pytest.mark.parametrize("kind", ["unwritable", "a file", "full"])
def test_a_cache_that_cannot_be_written_fails_nothing(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import numba
    from numba.core.caching import IndexDataCacheFile

    folder = tmp_path / "cache"
    if kind == "a file":
        folder.write_text("")
    elif kind == "unwritable":
        folder = Path("/proc/self/cache")
    else:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(IndexDataCacheFile, "save", full)
    monkeypatch.setenv(place.CACHE, str(folder))
    monkeypatch.setattr(runtime, "place_of_code", place.folder.__wrapped__)
    kernel = compiled.kernel()(add_one)
    with caplog.at_level(logging.INFO, "mlx_audio_turbo"):
        kernel.compile(numba.types.int64)
    assert kernel(2) == 3
    assert "is not kept" in caplog.text


@needs_numba
def test_the_code_is_kept_and_a_damaged_file_is_compiled_again(tmp_path: Path) -> None:
    program = """if True:
        import sys, numba
        from mlx_audio_turbo.ops import compiled
        from tests.test_compiled import add_one
        kernel = compiled.kernel()(add_one)
        kernel.compile(numba.types.int64)
        assert kernel(2) == 3
        sys.exit(0 if sum(kernel._compiled.stats.cache_hits.values()) else 3)
    """

    def run() -> int:
        environment = os.environ | {place.CACHE: str(tmp_path)}
        root = Path(__file__).parents[1]
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], env=environment, cwd=root
        ).returncode

    assert [run(), run()] == [3, 0]
    for path in tmp_path.rglob("*.nb*"):
        path.write_bytes(b"\x80")
    assert [run(), run()] == [3, 0]
