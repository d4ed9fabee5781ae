"""S3Gen and the vocoder in compiled kernels compute what MLX's operations compute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_audio_turbo.config import EncoderConfig, EstimatorConfig
from mlx_audio_turbo.hift import residuals
from mlx_audio_turbo.ops import compiled, lanes
from mlx_audio_turbo.s3gen.conformer import UpsampleConformerEncoder
from mlx_audio_turbo.s3gen.estimator import Estimator

M = TypeVar("M", bound=nn.Module)
ENCODER = EncoderConfig(width=32, heads=2, feed_forward=48, blocks=2, up_blocks=1, lookahead=3)
ESTIMATOR = EstimatorConfig(channels=24, heads=2, head_dim=16, blocks=2, mid_blocks=1, steps=2)
MELS = 8
pytestmark = pytest.mark.skipif(not compiled.available(), reason=str(compiled.reason()))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "on_gpu", lambda: False)


def randomised(module: M) -> M:
    """Weights that keep the size of what passes, so that a wrong one is seen behind all layers."""
    rng = np.random.default_rng(1)

    def draw(array: mx.array) -> mx.array:
        values = rng.standard_normal(array.shape)
        inputs = array.size // array.shape[0]
        if array.ndim == 1 or inputs < 4:
            return mx.array((0.3 * values + 0.7).astype(np.float32))
        # Column by column: MLX keeps that order, and kernels read by address.
        return mx.array(np.asfortranarray(values / np.sqrt(inputs), np.float32))

    module.update(tree_map(draw, module.parameters()))
    return module


def normal(*shape: int, seed: int = 3) -> mx.array:
    return mx.array(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def compiled_estimator(network: Estimator) -> Callable[..., mx.array]:
    from mlx_audio_turbo.s3gen.estimator_compiled import CompiledEstimator

    return CompiledEstimator(network)


def compiled_through(*arguments: Any) -> mx.array:
    from mlx_audio_turbo.s3gen import conformer_compiled

    return conformer_compiled.through(ENCODER, *arguments)


def assert_close(ours: mx.array, theirs: mx.array) -> None:
    """Equal to float32 rounding of a few dozen layers."""
    a, b = np.array(ours, np.float64), np.array(theirs, np.float64)
    assert a.shape == b.shape and np.isfinite(a).all()
    assert np.linalg.norm(a - b) <= 3e-6 * np.linalg.norm(b)


@pytest.mark.parametrize("time", [1, 3, 47, 48, 49, 150])
def test_the_estimator(time: int) -> None:
    """Catches a key beyond the end, and a convolution that misses the panel before."""
    network = randomised(Estimator(MELS, ESTIMATOR))
    given = {
        "mu": normal(1, time, MELS, seed=1),
        "speaker": normal(1, MELS),
        "condition": normal(1, time, MELS, seed=2),
        "t": 0.5,
        "r": 1.0,
    }
    x = normal(1, time, MELS)
    assert_close(compiled_estimator(network)(x, **given), network(x, **given))


def test_each_row_of_the_estimator_has_its_own_end() -> None:
    network = randomised(Estimator(MELS, ESTIMATOR))
    given = {"mu": normal(2, 70, MELS, seed=1), "speaker": normal(2, MELS), "t": 0.0, "r": 0.5}
    given |= {"condition": normal(2, 70, MELS, seed=2), "lengths": mx.array([70, 51])}
    x = normal(2, 70, MELS)
    ours, theirs = compiled_estimator(network)(x, **given), network(x, **given)
    assert_close(ours[:1], theirs[:1])
    assert_close(ours[1:, :51], theirs[1:, :51])


@pytest.mark.parametrize("time", [1, 23, 24, 25, 80])
def test_the_encoder(time: int) -> None:
    """Catches a distance that is off by one, in any panel of queries."""
    network = randomised(UpsampleConformerEncoder(ENCODER))
    x = normal(1, time, ENCODER.width)
    assert_close(network(x, through=compiled_through), network(x))


def test_each_row_of_the_encoder_has_its_own_end() -> None:
    network = randomised(UpsampleConformerEncoder(ENCODER))
    x, lengths = normal(2, 40, ENCODER.width), mx.array([40, 29])
    ours, theirs = network(x, lengths, through=compiled_through), network(x, lengths)
    assert_close(ours[:1], theirs[:1])
    assert_close(ours[1:, :58], theirs[1:, :58])


@pytest.mark.parametrize("time", [1, 8, 50, 700])
@pytest.mark.parametrize("channels", [8, 32])
def test_the_residual_stacks(channels: int, time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a window's edge that is not the signal's, and an end that is not zero."""
    from mlx_audio_turbo.hift import residuals_compiled

    monkeypatch.setattr(residuals_compiled, "WINDOW", 1)  # windows of two tiles
    stacks = [
        randomised(residuals.ResidualStack(channels, kernel, (1, 3, 5))) for kernel in (3, 7, 11, 7)
    ]
    x, source = normal(2, time, channels), normal(2, time, channels, seed=5)
    ours = residuals_compiled.residuals(x, source, stacks[-1], stacks[:-1])
    assert_close(ours, residuals.residuals(x, source, stacks[-1], stacks[:-1]))


def test_a_compiler_that_fails_leaves_mlx(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlx_audio_turbo.ops.compiled import flow_kernels

    def fail() -> list[object]:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(flow_kernels, "wanted", fail)
    monkeypatch.setattr(lanes, "_ready", lanes._ready.__wrapped__)
    with caplog.at_level(logging.INFO, "mlx_audio_turbo"):
        assert not lanes.suited(mx.zeros(8))
    assert "without compiled kernels: no such instruction" in caplog.text


def test_what_does_not_suit() -> None:
    """Half precision, and widths that are no multiple of a tile's rows, are left to MLX."""
    assert lanes.suited(mx.zeros(8), 64, 32)
    assert not lanes.suited(mx.zeros(8), 64, 36)
    assert not lanes.suited(mx.zeros(8, mx.float16))


def test_every_task_is_done_once_and_an_error_is_raised() -> None:
    done: list[int] = []
    lanes.for_each(lambda lane, index: done.append(index), 1000)
    assert sorted(done) == list(range(1000))

    def fail(lane: int, index: int) -> None:
        if index == 7:
            raise ValueError("seven")

    with pytest.raises(ValueError, match="seven"):
        lanes.for_each(fail, 100)


def test_a_network_whose_weight_is_replaced_computes_with_the_new_one() -> None:
    from mlx_audio_turbo.ops.compiled.panels import kept

    network, made = randomised(nn.Linear(8, 8)), []

    def make(module: nn.Linear) -> int:
        made.append(module["weight"])
        return len(made)

    assert [kept(network, make) for _ in range(2)] == [1, 1]
    network.weight = mx.zeros((8, 8))
    assert [kept(network, make) for _ in range(2)] == [2, 2]
    assert made[1] is network["weight"]
    network.update({"bias": mx.zeros(8)})
    assert kept(network, make) == 3
    assert list(dict(network.parameters())) == ["weight", "bias"]  # it is no parameter
