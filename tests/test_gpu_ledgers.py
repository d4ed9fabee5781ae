"""Ledgers of a GPU's code path, on the CPU: shapes, the largest arrays, primitives and kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo.config import T3Config
from mlx_audio_turbo.doctor.growing import counting_shapes
from mlx_audio_turbo.hift.generator import HiFTGenerator
from mlx_audio_turbo.ops import parallel
from mlx_audio_turbo.presets import TINY, TURBO
from mlx_audio_turbo.s3gen import conformer
from mlx_audio_turbo.s3gen.estimator import Estimator
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo.synthesis import streaming_vocoder, token_to_wav
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward

from .gpu_path import (
    NO_KERNEL_ON_CUDA,
    half,
    kernels,
    largest,
    ledger,
    log_mel,
    plain,
    trained_like,
)
from .helpers import normal, relative

T3 = cast(T3Config, TINY.t3)


# Shapes


def _mel(flow: TokenToMel, tokens: int, prompt: int, *, final: bool = True) -> mx.array:
    ids = mx.array(np.random.default_rng(tokens).integers(0, 6561, (1, prompt + tokens)))
    with mock.patch.object(mx, "async_eval"):
        return token_to_wav._solve(
            flow,
            [ids[:, prompt:]],
            [normal(1, 2 * (prompt + tokens), TINY.s3gen.mels)],
            prompt_tokens=ids[:, :prompt],
            prompt_mel=log_mel(2 * prompt),
            x_vector=mx.ones((1, TINY.s3gen.speaker_embedding)),
            final=final,
        )


@pytest.mark.parametrize("final", [True, False])
def test_padding_to_a_bucket_changes_nothing(
    gpu: str, final: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = TokenToMel(TINY.s3gen)
    trained_like(flow)

    def mel() -> mx.array:
        return _mel(flow, 37, 20, final=final)

    exact = plain(monkeypatch, mel)
    assert exact.shape == (1, 2 * (37 - (0 if final else 3)), 80)
    assert relative(np.array(mel()), exact) < 1e-5


def test_buckets() -> None:
    lengths = {token_to_wav.bucket(n) for n in range(1, 1257)}
    assert len(lengths) <= 21
    assert all(n <= token_to_wav.bucket(n) <= 1.25 * n for n in range(64, 1257))


def test_fifty_utterances_have_few_shapes(gpu: str) -> None:
    """cuDNN makes a plan for each shape of a convolution or attention; MLX raised after 256."""
    rng = np.random.default_rng(0)
    flow, vocoder = TokenToMel(TINY.s3gen), HiFTGenerator(TINY.hift)
    with counting_shapes() as seen:

        def speak(utterances: int) -> None:
            for _ in range(utterances):
                count, prompt = int(rng.integers(5, 1000)), int(rng.integers(50, 250))
                _mel(flow, count, prompt)
                # The vocoder's windows of one length after another.
                frames = 2 * count % 282 + 1
                vocoder.f0(log_mel(frames))
                vocoder.decode(log_mel(frames), mx.zeros((1, 480 * frames, 1)))

        speak(50)
        after_fifty = len(seen)
        planned = [shape for shape in seen if gpu == "cuda" or "attention" in str(shape[0])]
        assert len(planned) <= 200
        if gpu == "cuda":
            assert not any("conv" in str(shape[0]) for shape in seen)
            speak(50)
            assert len(seen) - after_fifty <= 6


# Memory and kernels


@pytest.mark.parametrize("rows, tokens", [(1, 1250), (4, 1250), (8, 1000), (32, 256)])
def test_attention_of_the_encoder_is_bounded(gpu: str, rows: int, tokens: int) -> None:
    """On a GPU with 8 GB one array may have about 4 GB; the scores were 8 rows x T x 2T at once."""
    config = TURBO.s3gen.encoder
    attention = half(conformer.RelativeAttention(config))
    x = mx.zeros((rows, 2 * tokens, config.width), mx.float16)
    positions = mx.zeros((4 * tokens - 1, config.width), mx.float16)

    def attend(x: mx.array, positions: mx.array) -> mx.array:
        with mock.patch.object(
            mx.fast, "scaled_dot_product_attention", lambda q, k, v, scale, mask: q + mask[..., :64]
        ):
            return attention(x, positions, None)

    whole = rows * config.heads * 2 * tokens * 4 * tokens * 2
    size = largest(ledger(attend, x, positions))
    assert size <= 2 * 2 * parallel.MAX_GPU_VALUES + 2 * x.nbytes
    assert size < whole or whole <= 4 * parallel.MAX_GPU_VALUES


@pytest.mark.parametrize("rows, tokens", [(1, 1250), (6, 1250), (32, 256)])
def test_largest_arrays_of_the_estimator(gpu: str, rows: int, tokens: int) -> None:
    """At Turbo's widths, of the largest batches that are rendered: small beside 8 GB."""
    assert rows * tokens <= token_to_wav.MAX_BATCH_TOKENS
    network = half(Estimator(80, replace(TURBO.s3gen.estimator, blocks=1, mid_blocks=1)))
    x = mx.zeros((rows, 2 * tokens, 80))

    def velocity(x: mx.array) -> mx.array:
        return network(x, mu=x, speaker=x[:, 0], condition=x, t=0.0, r=0.5)

    with mock.patch.object(mx.fast, "scaled_dot_product_attention", lambda q, *_, **__: q):
        assert largest(ledger(velocity, x)) <= 64 << 20


def test_largest_array_of_the_vocoder(gpu: str) -> None:
    frames = streaming_vocoder.BLOCK + 2 * streaming_vocoder.CONTEXT_FRAMES
    network = HiFTGenerator(TURBO.hift)
    source = mx.zeros((1, frames * 480, 1))
    primitives = ledger(lambda mel: network.decode(mel, source), mx.zeros((1, frames, 80)))
    assert largest(primitives) <= 64 << 20


def test_pieces_of_attention_on_a_gpu_change_nothing(
    gpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attention = conformer.RelativeAttention(TINY.s3gen.encoder)
    trained_like(attention)
    x = normal(2, 50, TINY.s3gen.encoder.width)
    positions = conformer.relative_positions(50, TINY.s3gen.encoder.width)
    mask = mx.arange(50)[None] < mx.array([50, 31])[:, None]
    whole = np.array(attention(x, positions, mask))
    monkeypatch.setattr(parallel, "MAX_GPU_VALUES", 2 * 2 * 100 * 7)
    assert relative(np.array(attention(x, positions, mask)), whole) < 1e-6


def test_batches_are_bounded() -> None:
    renderer = SimpleNamespace(_prompt_mel=np.zeros((1, 500, 80)))
    utterances = [(renderer, [0] * 1000)] * 64
    groups = token_to_wav.group_by_length(utterances)  # type: ignore[arg-type]
    assert sorted(i for group in groups for i in group) == list(range(64))
    assert max(map(len, groups)) * (250 + 1000) <= token_to_wav.MAX_BATCH_TOKENS
    short = [(renderer, [0] * 20)] * 8
    assert len(token_to_wav.group_by_length(short)) == 1  # type: ignore[arg-type]


def _estimator(x: mx.array) -> Callable[..., mx.array]:
    network = half(Estimator(80, TINY.s3gen.estimator))
    return lambda y: network(y, mu=y, speaker=y[:, 0], condition=y, t=0.0, r=0.5)


def _encoder(x: mx.array) -> Callable[..., mx.array]:
    network = half(conformer.UpsampleConformerEncoder(TINY.s3gen.encoder))
    half_x = mx.zeros((1, 40, TINY.s3gen.encoder.width), mx.float16)
    return lambda _: network(half_x)


def _vocoder(x: mx.array) -> Callable[..., mx.array]:
    network, source = HiFTGenerator(TINY.hift), mx.zeros((1, 40 * 480, 1))
    return lambda y: network.decode(y, source)


def _step(x: mx.array) -> Callable[..., mx.array]:
    model = half(TurboT3(T3))
    cache = model.make_cache()
    mlx_forward(model, mx.zeros((1, 9, T3.width), mx.float16), cache, [0])
    row = mx.zeros((1, 1, T3.width), mx.float16)
    return lambda _: mlx_forward(model, row, cache.copy(), [9])


@pytest.mark.parametrize("stage", [_estimator, _encoder, _vocoder, _step])
def test_a_gpu_has_every_primitive(gpu: str, stage: Callable[..., Callable]) -> None:
    x = mx.zeros((1, 40, 80))
    primitives = ledger(stage(x), x)
    assert len(primitives) > 10
    names = {each["name"] for each in primitives}
    types = {str(dtype) for each in primitives for *_, dtype in each["outputs"]}
    assert not names & NO_KERNEL_ON_CUDA
    assert not {name for name in types if "64" in name}, types  # float64, complex64, int64


def test_a_token_takes_few_kernels(gpu: str) -> None:
    """24 layers took 330; a layer has two norms, four products, an attention and a GELU."""
    mx.enable_compile()  # an activation is one kernel
    counts = []
    for layers in (2, 3):
        config = replace(T3, layers=layers)
        model: Any = half(TurboT3(config))
        cache = model.make_cache()
        start = mlx_forward(model, mx.zeros((1, 9, config.width), mx.float16), cache, [0])
        row = mx.zeros((1, 1, config.width), mx.float16)
        mx.eval(model.parameters(), start, row, cache.arrays)

        def step(x: mx.array, model: Any = model, cache: Any = cache) -> mx.array:
            return mlx_forward(model, x, cache, [9])

        counts.append(sum(kernels(step, row).values()))
    assert counts[1] - counts[0] <= 14
