"""Ledgers of a GPU's code path, on the CPU: shapes, the largest arrays, primitives and kernels."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import T3Config
from mlx_audio_turbo.doctor.growing import counting_shapes
from mlx_audio_turbo.encoders.campplus import CAMPlus
from mlx_audio_turbo.encoders.s3_tokenizer import S3Tokenizer
from mlx_audio_turbo.encoders.voice_encoder import VoiceEncoder
from mlx_audio_turbo.hift.f0 import F0Predictor
from mlx_audio_turbo.hift.generator import HiFTGenerator
from mlx_audio_turbo.hift.source import HarmonicSource
from mlx_audio_turbo.loading.networks import make_t3, parameter_shapes
from mlx_audio_turbo.loading.weights import FLOAT32
from mlx_audio_turbo.ops import device, parallel
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.presets import ORIGINAL_T3, TINY, TURBO
from mlx_audio_turbo.s3gen import conformer
from mlx_audio_turbo.s3gen.estimator import Estimator
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo.synthesis import streaming_vocoder, token_to_wav
from mlx_audio_turbo.synthesis.engine import default_cache_limit
from mlx_audio_turbo.t3 import original
from mlx_audio_turbo.t3.decoder import Decoder, Request
from mlx_audio_turbo.t3.guidance import guide
from mlx_audio_turbo.t3.interface import Condition, prefill_prefix
from mlx_audio_turbo.t3.sampling import sample
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward

from .gpu_path import (
    MADE,
    NO_KERNEL_ON_CUDA,
    VIEWS,
    evaluated,
    fused_as_one,
    kernels,
    largest,
    lazy,
    ledger,
    log_mel,
    on_cpus_path,
    trained_like,
)
from .helpers import normal, relative
from .measure import expected

TURBO_T3 = cast(T3Config, TURBO.t3)
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="MLX compiles for the CPU with g++"
)


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
def test_padding_to_a_bucket_changes_nothing(gpu: str, final: bool) -> None:
    flow = TokenToMel(TINY.s3gen)
    trained_like(flow)

    def mel() -> mx.array:
        return _mel(flow, 37, 20, final=final)

    with on_cpus_path():
        exact = np.array(mel())
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
    attention = lazy(conformer.RelativeAttention(config))
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
    network = lazy(Estimator(80, replace(TURBO.s3gen.estimator, blocks=1, mid_blocks=1)))
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


# Primitives and kernels


Graph = tuple[Callable[[mx.array], mx.array], mx.array]
"""A stage, and its argument."""
SHORT_ORIGINAL = replace(ORIGINAL_T3, layers=2, text_vocabulary=300, text_positions=99)


def _s3_tokenizer() -> Graph:
    network = lazy(S3Tokenizer(TURBO.s3_tokenizer))
    return network, mx.zeros((1, 1500, TURBO.s3_tokenizer.mels))


def _voice_encoder() -> Graph:
    return lazy(VoiceEncoder(TURBO.voice_encoder)).embed, mx.zeros((400, TURBO.voice_encoder.mels))


def _campplus() -> Graph:
    return lazy(CAMPlus(TURBO.campplus)), mx.zeros((1, 998, TURBO.campplus.mels))


def _prefill() -> Graph:
    model = lazy(TurboT3(replace(TURBO_T3, layers=2, text_vocabulary=300)))
    x = mx.zeros((1, 376 + 1024, TURBO_T3.width), mx.float16)
    return lambda x: mlx_forward(model, x, model.make_cache(), [0]), x


def _step() -> Graph:
    model = evaluated(TurboT3(replace(TURBO_T3, layers=2, text_vocabulary=300)))
    cache, rows = model.make_cache(), mx.zeros((8, TURBO_T3.heads, 1400, 64), mx.float16)
    for layer in cache.layers:
        layer.update_and_fetch(rows, rows)
    mx.eval(cache.arrays)
    x = mx.zeros((8, 1, TURBO_T3.width), mx.float16)
    return lambda x: mlx_forward(model, x, cache.copy(), [1400] * 8), x


def _original_step() -> Graph:
    model = evaluated(make_t3(SHORT_ORIGINAL))
    begun = mx.zeros((2, 9, SHORT_ORIGINAL.width), mx.float16)
    cache = model.make_cache()
    mx.eval(original.mlx_forward(model, begun, cache, [0, 0]))
    mx.eval(cache.arrays)
    x = mx.zeros((2, 1, SHORT_ORIGINAL.width), mx.float16)
    return lambda x: original.mlx_forward(model, x, cache.copy(), [9, 9]), x


def _sampling() -> Graph:
    history, keys = mx.zeros((8, 6563), mx.bool_), mx.zeros((8, 2), mx.uint32)
    return (
        lambda logits: sample(logits, history, SamplingOptions(), TurboT3.filters, keys),
        mx.zeros((8, 6563)),
    )


def _guided_sampling() -> Graph:
    history, keys = mx.zeros((1, 8194), mx.bool_), mx.zeros((1, 2), mx.uint32)
    options = SamplingOptions(min_p=0.05, cfg_weight=0.5)
    return (
        lambda x: sample(guide(x, 0.5), history, options, original.OriginalT3.filters, keys),
        mx.zeros((2, 8194)),
    )


def _encoder() -> Graph:
    network = lazy(conformer.UpsampleConformerEncoder(TURBO.s3gen.encoder))
    return network, mx.zeros((1, 1250, TURBO.s3gen.encoder.width), mx.float16)


def _estimator() -> Graph:
    network = lazy(Estimator(80, TURBO.s3gen.estimator))
    lengths = mx.array([2000])
    return (
        lambda x: network(x, mu=x, speaker=x[:, 0], condition=x, t=0.0, r=0.5, lengths=lengths),
        mx.zeros((1, 2500, 80)),
    )


def _f0() -> Graph:
    return lazy(F0Predictor(TURBO.hift), mx.float32), mx.zeros((1, FRAMES, 80))


def _source() -> Graph:
    network, sines = lazy(HarmonicSource(TURBO.hift), mx.float32), TURBO.hift.harmonics + 1
    offsets, phases = mx.zeros((1, FRAMES, sines)), mx.zeros((1, sines))
    noise = mx.zeros((1, FRAMES * 480, sines))
    return lambda f0: network(f0, offsets, phases, noise), mx.zeros((1, FRAMES))


def _vocoder() -> Graph:
    network, source = lazy(HiFTGenerator(TURBO.hift), mx.float32), mx.zeros((1, FRAMES * 480, 1))
    return lambda mel: network.decode(mel, source), mx.zeros((1, FRAMES, 80))


FRAMES = streaming_vocoder.BLOCK + 2 * streaming_vocoder.CONTEXT_FRAMES
STAGES: dict[Callable[[], Graph], tuple[int, int]] = {
    _s3_tokenizer: (1300, 26),
    _voice_encoder: (5000, 3),
    _campplus: (3000, 11),
    _prefill: (40, 17),
    _step: (40, 27),
    _original_step: (150, 2),
    _sampling: (36, 1),
    _guided_sampling: (48, 1),
    _encoder: (320, 68),
    _estimator: (1900, 20),
    _f0: (60, 4),
    _source: (24, 5),
    _vocoder: (1400, 9),
}
"""The most kernels of each stage, before any fusion, and MiB of its largest array.

On a Mac with 8 GB a single array may have about 4 GB. What is given here keeps ten such arrays
within a tenth of its memory.
"""
FLOAT32_PRODUCTS = {_estimator: 17}
"""Products in float32 of stages in half precision: those of the time."""
HALF = (_prefill, _step, _original_step, _encoder, _estimator)
PRODUCTS = {"Matmul", "AddMM", "Convolution", "BlockMaskedMM", "QuantizedMatmul"}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.__name__.strip("_"))
def test_primitives_of_a_stage(gpu: str, stage: Callable[[], Graph]) -> None:
    """At Turbo's sizes: nothing that a back end lacks, no wide types, no product in float32 where
    half precision is meant and none in half where it is not, few kernels, small arrays."""
    with fused_as_one():
        graph = ledger(*stage())
    names = {each["name"] for each in graph}
    types = {str(dtype) for each in graph for *_, dtype in each["outputs"]}
    assert not names & NO_KERNEL_ON_CUDA
    assert not {name for name in types if "64" in name}, types  # float64, complex64, int64
    products = [each["outputs"][0][2] for each in graph if each["name"] in PRODUCTS]
    wide = products.count(mx.float32)
    assert wide == (FLOAT32_PRODUCTS.get(stage, 0) if stage in HALF else len(products))
    most, mebibytes = STAGES[stage]
    graph = [each for each in graph if each["name"] not in MADE]
    count = sum(each["name"] not in VIEWS for each in graph)
    assert (count <= most, largest(graph) <= mebibytes << 20) == (True, True), (
        count,
        largest(graph) / 2**20,
    )


def kernels_of_a_token(layers: int) -> int:
    """Of a step of T3, sampling included, as the decoder dispatches it."""
    model = evaluated(TurboT3(replace(TURBO_T3, layers=layers, text_vocabulary=300)))
    prefix = prefill_prefix(model, Condition(mx.zeros((1, 256)), mx.zeros((1, 9), mx.int32)))
    decoder = Decoder(model, options=SamplingOptions(), stop=False)
    decoder.add(Request(0, mx.arange(5), prefix, mx.random.key(0), max_tokens=9))
    decoder.step()
    counts: list[int] = []

    def counted(*results: mx.array) -> None:
        counts.append(sum(kernels(*results).values()))

    with mock.patch.object(mx, "async_eval", counted), fused_as_one():
        decoder.step()
    return counts[-1]


CUDA_MORE = 26
"""Kernels of sampling that other GPUs run in fewer: CUDA compiles long chains only."""


@needs_compiler
def test_kernels_of_a_token(gpu: str) -> None:
    """A layer: two norms, four products, keys, values, attention, GELU, two sums."""
    mx.enable_compile()
    one, two = kernels_of_a_token(1), kernels_of_a_token(2)
    assert two - one == 12
    assert one + 23 * 12 == expected.KERNELS + (CUDA_MORE if gpu == "cuda" else 0)


@needs_compiler
@pytest.mark.parametrize(
    "name", ["silu", "gelu", "gelu_tanh", "mish", "elu", "snake", "leaky_relu"]
)
def test_an_activation_is_one_kernel(gpu: str, name: str) -> None:
    """MLX cuts a chain of more than eleven operations in two. CUDA compiles the long ones only."""
    mx.enable_compile()
    x = mx.zeros((1, 7, 12), mx.float16)
    second = {"snake": (mx.ones((12,), mx.float16),), "leaky_relu": (0.1,)}.get(name, ())
    mx.eval(x, second)
    count = sum(kernels(getattr(ops, name)(x, *second)).values())
    short = gpu == "cuda" and name not in ("gelu", "gelu_tanh", "snake")
    assert (1 < count <= 4) if short else count == 1


@needs_compiler
def test_compiling_a_whole_network_saves_little(gpu: str) -> None:
    """Why T3's step and the estimator are not compiled as wholes: docs/kernels.md."""
    mx.enable_compile()
    model = evaluated(TurboT3(replace(TURBO_T3, layers=4, text_vocabulary=300)))
    cache = model.make_cache()
    start = mlx_forward(model, mx.zeros((1, 9, TURBO_T3.width), mx.float16), cache, [0])
    row = mx.zeros((1, 1, TURBO_T3.width), mx.float16)
    estimator = evaluated(Estimator(80, replace(TURBO.s3gen.estimator, mid_blocks=2)))
    x = mx.zeros((1, 80, 80))
    mx.eval(start, cache.arrays, row, x)

    def step(row: mx.array) -> mx.array:
        return mlx_forward(model, row, cache.copy(), [9])

    def velocity(x: mx.array) -> mx.array:
        return estimator(x, mu=x, speaker=x[:, 0], condition=x, t=0.0, r=0.5)

    if gpu == "cuda":  # short chains that CUDA does not compile by themselves
        saved_of_step, saved_of_velocity = 0.05, 0.15
    else:
        saved_of_step, saved_of_velocity = 0.02, 0.06
    works: list[tuple[Callable[..., mx.array], mx.array, float]] = [
        (step, row, saved_of_step),
        (velocity, x, saved_of_velocity),
    ]
    for function, argument, saved in works:
        with fused_as_one():
            plain = sum(kernels(function(argument)).values())
            compiled = sum(kernels(mx.compile(function)(argument)).values())
        assert (1 - saved) * plain < compiled <= plain


@needs_compiler
def test_compiled_sampling_gives_the_same_ids(gpu: str) -> None:
    """And takes half of the kernels; CUDA does not compile it."""
    logits, history = 4 * normal(3, 6563), normal(3, 6563, seed=1) > 2
    keys = mx.random.split(mx.random.key(7), 3)
    mx.eval(logits, history, keys)

    def ids() -> mx.array:
        return sample(logits, history, SamplingOptions(), TurboT3.filters, keys)

    plain_ids, plain_count = np.array(ids()), sum(kernels(ids()).values())
    mx.enable_compile()
    assert np.array(ids()).tolist() == plain_ids.tolist()
    assert sum(kernels(ids()).values()) <= (1 if gpu == "cuda" else 0.55) * plain_count


def test_eight_texts_together_fit_a_mac_with_8_gb() -> None:
    """``generate_batch`` by default: weights, keys and values, prefixes, arrays, freed buffers."""
    weights = sum(
        math.prod(shape) * (4 if name.startswith(FLOAT32) else 2)
        for name, shape in parameter_shapes(TURBO).items()
    )
    position = 2 * TURBO_T3.layers * TURBO_T3.width * 2
    texts = 8 * (376 + 60 + 1000) * position  # of 40 s each
    prefixes = 4 * 376 * position
    arrays = 10 * max(mebibytes for _, mebibytes in STAGES.values()) << 20
    with (
        mock.patch.object(mx, "device_info", lambda *_: {"memory_size": 8 << 30}),
        mock.patch.object(device, "_FORCED", "metal"),
    ):
        freed = default_cache_limit()
    # What Metal recommends on such a Mac is 5.3 GiB.
    assert 3 << 30 < weights + texts + prefixes + arrays + freed < 5.3 * 2**30
