"""The S3 tokenizer on a tiny random network, against the formulas in numpy."""

from __future__ import annotations

import dataclasses
import math

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo import ops
from mlx_audio_turbo.encoders.s3_tokenizer import BOUND, MemoryAttention, S3Tokenizer
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert.mapping.s3_tokenizer import RULES
from mlx_audio_turbo_convert.synthetic import shapes

from . import mapped
from .helpers import check_rows_alone, normal

CONFIG = dataclasses.replace(TINY.s3_tokenizer, width=32, heads=2, layers=2)
UPSTREAM = mapped.under("tokenizer.", shapes.s3gen(dataclasses.replace(TINY, s3_tokenizer=CONFIG)))


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    return mapped.draw(UPSTREAM)


@pytest.fixture
def network(weights: dict[str, np.ndarray]) -> S3Tokenizer:
    network = S3Tokenizer(CONFIG)
    mapped.fill(network, RULES, weights, prefix="s3tokenizer.")
    return network


@pytest.mark.parametrize("frames", range(1, 13))
def test_one_token_per_four_frames(network: S3Tokenizer, frames: int) -> None:
    log_mel = normal(2, frames, CONFIG.mels)
    count = math.ceil(math.ceil(frames / 2) / 2)
    assert network.encode(log_mel).shape == (2, count, CONFIG.width)
    tokens = network(log_mel)
    assert tokens.shape == (2, count)
    assert tokens.dtype == mx.int32
    assert set(np.array(tokens).ravel()) <= set(range(3**CONFIG.codebook_dims))


def test_each_item_of_a_batch_as_alone(network: S3Tokenizer) -> None:
    check_rows_alone(network.encode, normal(3, 50, CONFIG.mels), atol=1e-5)


def test_only_the_front_end_is_dropped(weights: dict[str, np.ndarray]) -> None:
    plan = mapped.fill(S3Tokenizer(CONFIG), RULES, weights, prefix="s3tokenizer.")
    assert set(plan.dropped) == {"tokenizer._mel_filters", "tokenizer.window"}


def test_the_key_has_no_bias() -> None:
    attention = MemoryAttention(CONFIG)
    assert "bias" not in attention.key
    assert "bias" in attention.query and "bias" in attention.value


def attention_in_numpy(
    x: np.ndarray, weights: dict[str, np.ndarray], *, heads: int, block: str
) -> np.ndarray:
    """Rotate-half, softmax, ``out``, and after it the memory: what the papers say, in float64."""

    def linear(name: str, y: np.ndarray) -> np.ndarray:
        bias = weights.get(f"{block}{name}.bias", np.zeros(1))
        return y @ weights[f"{block}{name}.weight"].astype(np.float64).T + bias

    time, width = x.shape
    dim = width // heads
    angle = np.arange(time)[:, None] / 10_000.0 ** (np.arange(0, dim, 2) / dim)
    cos, sin = np.tile(np.cos(angle), 2), np.tile(np.sin(angle), 2)

    def rotate(y: np.ndarray) -> np.ndarray:
        half = np.concatenate([-y[:, dim // 2 :], y[:, : dim // 2]], axis=1)
        return y * cos + half * sin

    q, k, v = linear("query", x), linear("key", x), linear("value", x)
    heard = np.empty_like(v)
    for head in range(heads):
        part = slice(head * dim, (head + 1) * dim)
        scores = np.exp(rotate(q[:, part]) @ rotate(k[:, part]).T / math.sqrt(dim))
        heard[:, part] = scores / scores.sum(axis=1, keepdims=True) @ v[:, part]
    kernel = weights[f"{block}fsmn_block.weight"][:, 0]
    reach = (kernel.shape[1] - 1) // 2
    padded = np.pad(v, [(reach, kernel.shape[1] - 1 - reach), (0, 0)])
    memory = v.copy()
    for tap in range(kernel.shape[1]):
        memory += padded[tap : tap + time] * kernel[:, tap]
    return linear("out", heard) + memory


def test_attention_is_the_formula(network: S3Tokenizer, weights: dict[str, np.ndarray]) -> None:
    """Fails for interleaved pairs, another exponent, a memory before ``out`` or without v."""
    x = normal(1, 40, CONFIG.width)
    ours = np.array(network.encoder.blocks[0].attn(x)[0])
    expected = attention_in_numpy(
        np.array(x[0], np.float64),
        weights,
        heads=CONFIG.heads,
        block="tokenizer.encoder.blocks.0.attn.",
    )
    assert np.abs(ours - expected).max() < 1e-5


def test_no_norm_after_the_last_block(network: S3Tokenizer) -> None:
    last = network.encoder.blocks[-1]
    log_mel = normal(1, 40, CONFIG.mels)
    before = network.encode(log_mel)
    last.mlp.layers[-1].bias = last.mlp.layers[-1].bias + 5.0
    assert mx.allclose(network.encode(log_mel), before + 5.0, atol=1e-4)


def quantizer_of_the_identity() -> S3Tokenizer:
    config = dataclasses.replace(CONFIG, width=8, heads=1, layers=1, codebook_dims=8)
    network = S3Tokenizer(config)
    network.quantizer.project_down.weight = mx.eye(8)
    network.quantizer.project_down.bias = mx.zeros((8,))
    return network


def test_digits_are_ternary_and_the_first_is_the_lowest() -> None:
    network = quantizer_of_the_identity()
    levels = np.random.default_rng(0).integers(-1, 2, (2, 50, 8))
    tokens = np.array(network.quantize(mx.array(4.0 * levels.astype(np.float32))))
    assert (tokens == ((levels + 1) * 3 ** np.arange(8)).sum(axis=-1)).all()


def test_tanh_is_bounded_before_it_is_rounded() -> None:
    """tanh(0.5498) is above a half, and times the bound below it."""
    assert 0.5 / BOUND > math.tanh(0.5498) > 0.5
    hidden = mx.full((1, 1, 8), 0.5498)
    assert quantizer_of_the_identity().quantize(hidden).item() == (3**8 - 1) // 2


def test_halves_go_to_the_even_level() -> None:
    h = np.float32(math.atanh(0.5 / BOUND))
    near = h + np.arange(-50, 51, dtype=np.float32) * np.spacing(h)
    (halves,) = np.nonzero(np.array(mx.tanh(mx.array(near)) * BOUND) == 0.5)
    assert len(halves) > 0
    for sign in (-1, 1):
        hidden = mx.broadcast_to(mx.array(sign * near[halves])[:, None], (len(halves), 8))
        tokens = quantizer_of_the_identity().quantize(hidden[None])
        assert (tokens == (3**8 - 1) // 2).all()


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding", "time"),
    [(31, 1, 1, 15, 40), (31, 1, 1, 15, 7), (5, 2, 1, 2, 21), (3, 1, 2, (1, 3), 20)],
)
def test_depthwise_convolution_is_mlx_own(
    kernel: int, stride: int, dilation: int, padding: int | tuple[int, int], time: int
) -> None:
    x, weight = normal(2, time, 8), normal(8, kernel, 1, seed=1)
    left, right = padding if isinstance(padding, tuple) else (padding, padding)
    padded = mx.pad(x, [(0, 0), (left, right), (0, 0)])
    expected = mx.conv1d(padded, weight, stride, 0, dilation, 8)
    ours = ops.conv1d(x, weight, stride=stride, padding=padding, dilation=dilation, groups=8)
    assert ours.shape == expected.shape
    assert mx.allclose(ours, expected, atol=1e-5)
