"""CAM++ on a tiny random network, against the formulas in numpy."""

from __future__ import annotations

import dataclasses

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo.encoders.campplus import (
    CAMPlus,
    DenseLayer,
    Head,
    pool_context,
    pool_statistics,
)
from mlx_audio_turbo.ops.layers import ScaleShift
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import rules as conversion
from mlx_audio_turbo_convert.mapping.campplus import RULES
from mlx_audio_turbo_convert.synthetic import shapes

from . import mapped
from .helpers import check_rows_alone, normal

CONFIG = dataclasses.replace(TINY.campplus, block_layers=(2, 3, 2), segment=10)
PREFIX = "s3gen.speaker_encoder."
UPSTREAM = mapped.under(
    "speaker_encoder.", shapes.s3gen(dataclasses.replace(TINY, campplus=CONFIG))
)


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    return mapped.draw(UPSTREAM)


@pytest.fixture
def network(weights: dict[str, np.ndarray]) -> CAMPlus:
    network = CAMPlus(CONFIG)
    mapped.fill(network, RULES, weights, prefix=PREFIX)
    return network


@pytest.mark.parametrize("frames", [4, 19, 20, 21, 57])
def test_one_embedding_of_any_length(network: CAMPlus, frames: int) -> None:
    embedding = network(normal(2, frames, CONFIG.mels))
    assert embedding.shape == (2, CONFIG.embedding)
    assert mx.isfinite(embedding).all()


def test_each_item_of_a_batch_as_alone(network: CAMPlus) -> None:
    """Batch norms must not look at the batch."""
    fbank = normal(3, 57, CONFIG.mels) * mx.array([1.0, 5.0, 0.2])[:, None, None]
    check_rows_alone(network, fbank, rtol=1e-4, atol=1e-4)


def test_batch_norms_become_what_they_compute(weights: dict[str, np.ndarray]) -> None:
    """With the running statistics, each with its own gain and bias; the last one with neither."""
    made = {
        step.target: step.move(*(weights[source] for source in step.sources))
        for step in conversion.plan(RULES, weights).steps
    }
    for ours, theirs in [
        ("head.norm1", "head.bn1"),
        ("head.stage1.0.shortcut_norm", "head.layer1.0.shortcut.1"),
        ("block2.layer3.norm2", "xvector.block2.tdnnd3.nonlinear2.batchnorm"),
        ("transit3.norm", "xvector.transit3.nonlinear.batchnorm"),
        ("dense_norm", "xvector.dense.nonlinear.batchnorm"),
    ]:
        source = f"speaker_encoder.{theirs}."
        mean, variance = weights[f"{source}running_mean"], weights[f"{source}running_var"]
        gain = weights.get(f"{source}weight", np.ones_like(mean))
        bias = weights.get(f"{source}bias", np.zeros_like(mean))
        norm = ScaleShift(len(mean))
        norm.weight = mx.array(made[f"{PREFIX}{ours}.weight"])
        norm.bias = mx.array(made[f"{PREFIX}{ours}.bias"])
        x = np.random.default_rng(1).standard_normal((7, len(mean)))
        expected = (x - mean) / np.sqrt(variance + 1e-5) * gain + bias
        assert np.abs(np.array(norm(mx.array(x.astype(np.float32)))) - expected).max() < 1e-5


def test_only_the_step_counters_are_dropped(weights: dict[str, np.ndarray]) -> None:
    plan = mapped.fill(CAMPlus(CONFIG), RULES, weights, prefix=PREFIX)
    assert {name.rpartition(".")[2] for name in plan.dropped} == {"num_batches_tracked"}
    used = {source for step in plan.steps for source in step.sources}
    assert used | set(plan.dropped) == set(weights)


def test_the_head_flattens_channel_by_channel() -> None:
    """Value c * F + f of a frame is channel c at frequency f."""
    head = Head(CONFIG)
    marks = mx.arange(CONFIG.head_channels).astype(mx.float32)
    head.conv2.weight = mx.zeros_like(head.conv2.weight)
    head.norm2.bias = marks
    out = head(normal(1, 12, CONFIG.mels))
    frequencies = CONFIG.mels // 8
    assert out.shape == (1, 12, CONFIG.head_channels * frequencies)
    assert (out == mx.repeat(marks, frequencies)).all()


def test_the_head_keeps_time_and_the_order_of_frequencies(network: CAMPlus) -> None:
    """A change at one frame and in the lowest bands moves what is near it and nothing else."""
    fbank = normal(1, 40, CONFIG.mels)
    changed = np.array(fbank)
    changed[0, 20, :4] += 3
    moved = np.abs(np.array(network.head(mx.array(changed)) - network.head(fbank)))[0]
    moved = moved.reshape(40, CONFIG.head_channels, -1)
    frames, _, frequencies = np.nonzero(moved)
    assert set(frames) == set(range(10, 31))  # ten 3x3 convolutions deep
    assert frequencies.max() < 6


def test_context_is_the_clip_and_the_segment() -> None:
    """The last segment has 7 frames of 10, and is divided by 7."""
    x = normal(2, 37, 5)
    values = np.array(x, np.float64)
    expected = np.repeat(values.mean(axis=1, keepdims=True), 37, axis=1)
    for start in (0, 10, 20, 30):
        part = slice(start, min(start + 10, 37))
        expected[:, part] += values[:, part].mean(axis=1, keepdims=True)
    assert np.abs(np.array(pool_context(x, 10)) - expected).max() < 1e-6


@pytest.mark.parametrize("frames", [5, 10, 37])
def test_deviation_is_unbiased(frames: int) -> None:
    x = 3.0 + normal(2, frames, 5)
    values = np.array(x, np.float64)
    expected = np.concatenate([values.mean(axis=1), values.std(axis=1, ddof=1)], axis=-1)
    assert np.abs(np.array(pool_statistics(x, 10)) - expected).max() < 1e-6


def test_sums_over_time_keep_their_digits() -> None:
    """Rectified frames are often 0: one running sum of them is off by 9e-7 after five seconds."""
    x = mx.maximum(normal(1, 500, 256), 0)
    expected = np.array(x, np.float64).std(axis=1, ddof=1)
    error = np.linalg.norm(np.array(pool_statistics(x, 100))[:, 256:] - expected)
    assert error / np.linalg.norm(expected) < 4e-7


def dense_layer_in_numpy(x: np.ndarray, layer: DenseLayer, *, dilation: int) -> np.ndarray:
    """Bottleneck, dilated convolution, gate; the batch norms already folded."""

    def get(module: object, name: str = "weight") -> np.ndarray:
        return np.array(getattr(module, name), np.float64)

    x = np.maximum(x * get(layer.norm1) + get(layer.norm1, "bias"), 0) @ get(layer.linear).T
    x = np.maximum(x * get(layer.norm2) + get(layer.norm2, "bias"), 0)
    time, kernel = len(x), get(layer.local)
    padded = np.pad(x, [(dilation, dilation), (0, 0)])
    local = sum(padded[tap * dilation :][:time] @ kernel[:, tap].T for tap in range(3))
    segments = [x[start : start + CONFIG.segment] for start in range(0, time, CONFIG.segment)]
    context = np.concatenate([np.tile(part.mean(axis=0), (len(part), 1)) for part in segments])
    context = context + x.mean(axis=0)
    hidden = np.maximum(context @ get(layer.squeeze).T + get(layer.squeeze, "bias"), 0)
    gate = hidden @ get(layer.gate).T + get(layer.gate, "bias")
    return local / (1 + np.exp(-gate))


@pytest.mark.parametrize(("block", "dilation"), [(1, 1), (2, 2), (3, 2)])
def test_a_dense_layer_is_the_formula(network: CAMPlus, block: int, dilation: int) -> None:
    layer = network[f"block{block}"].layer2
    x = normal(1, 37, layer.norm1.weight.size)
    expected = dense_layer_in_numpy(np.array(x[0], np.float64), layer, dilation=dilation)
    assert np.abs(np.array(layer(x)[0]) - expected).max() < 1e-5


def test_dense_layers_see_all_that_came_before(network: CAMPlus) -> None:
    x = normal(1, 20, CONFIG.initial_channels)
    block = network["block1"]
    out = block(x)
    assert (out[..., : CONFIG.initial_channels] == x).all()
    first = block.layer1(x)
    second = block.layer2(mx.concatenate([x, first], axis=-1))
    expected = mx.concatenate([x, first, second], axis=-1)
    assert mx.allclose(out, expected, atol=1e-6)
