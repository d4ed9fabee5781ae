"""The code path of a GPU, run on the CPU: half precision, device, shapes, memory, kernels."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map_with_path

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import T3Config
from mlx_audio_turbo.doctor.growing import counting_shapes
from mlx_audio_turbo.hift.generator import HiFTGenerator
from mlx_audio_turbo.ops import activations, device, parallel
from mlx_audio_turbo.presets import ORIGINAL_S3GEN, TINY, TURBO
from mlx_audio_turbo.s3gen import conformer
from mlx_audio_turbo.s3gen.estimator import Estimator
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo.synthesis import streaming_vocoder, token_to_wav
from mlx_audio_turbo.t3.interface import Condition
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward

from .helpers import normal, relative, snr
from .measure.parity.sizes import GOLDEN

T3 = cast(T3Config, TINY.t3)
HALVES = [mx.float16, mx.bfloat16]
VIEWS = {"Broadcast", "Transpose", "Reshape", "Slice", "ExpandDims", "Squeeze", "Unflatten"}
VIEWS |= {"Flatten", "Split", "AsStrided"}
NO_KERNEL_ON_CUDA = {"LUF", "QRF", "SVD", "Inverse", "Cholesky", "Eig", "Eigh", "Hadamard", "FFT"}


@pytest.fixture(params=["metal", "cuda"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The path of this back end; without compiled kernels, for which the CPU needs a compiler."""
    monkeypatch.setattr(device, "_FORCED", request.param)
    mx.disable_compile()
    yield request.param
    mx.enable_compile()


def plain(monkeypatch: pytest.MonkeyPatch, work: Callable[[], mx.array]) -> np.ndarray:
    """The result on the CPU's own path."""
    with monkeypatch.context() as patch:
        patch.setattr(device, "_FORCED", "0")
        return np.array(work())


def trained_like(module: nn.Module, seed: int = 0) -> None:
    """Weights of a trained model's magnitudes: Snake's alphas from 0 to 20, gains near 1."""
    rng = np.random.default_rng(seed)

    def sample(name: str, array: mx.array) -> mx.array:
        values = rng.standard_normal(array.shape)
        if "alpha" in name:
            values = np.concatenate([[0, 1e-8, 1e-4], rng.uniform(0, 20, array.shape)])
            values = values[: array.size]
        elif array.ndim == 1:
            values = 0.1 * values + ("norm" in name or "ln_" in name) * ("bias" not in name)
        else:
            values /= np.sqrt(np.prod(array.shape[1:]))
        if name.startswith("conv_out"):
            values = values * 0.3
        return mx.array(values.astype(np.float32))

    module.update(tree_map_with_path(sample, module.parameters()))


def log_mel(frames: int) -> mx.array:
    """(1, frames, 80) from -11.5 to 2."""
    return -4.75 + 6.75 * mx.tanh(normal(1, frames, TINY.s3gen.mels, seed=5))


# Half precision


def test_vocoder_on_a_gpu_equals_the_cpus(gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = HiFTGenerator(TINY.hift)
    trained_like(network)
    source = 0.1 * normal(1, 12 * 480, 1, seed=6)

    def audio() -> mx.array:
        return network.decode(log_mel(12), source)

    exact = plain(monkeypatch, audio)
    assert exact.std() > 1e-3
    assert snr(np.array(audio()), exact) > 45
    network.set_dtype(mx.float16)
    assert np.isfinite(np.array(audio())).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("original", [False, True], ids=["mean flow", "guided"])
def test_mel_in_half_precision(
    gpu: str, dtype: mx.Dtype, original: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = GOLDEN.s3gen.estimator
    if original:
        settings = ORIGINAL_S3GEN.estimator
        estimator = replace(estimator, schedule="cosine", guidance=0.7, mean_flow=False)
        assert (settings.schedule, settings.guidance) == ("cosine", 0.7)
    network = TokenToMel(replace(GOLDEN.s3gen, estimator=estimator))
    trained_like(network)
    # A residual stream of thousands, as trained models have in some channels.
    block = network.estimator.mid[0].blocks[0].feed_forward
    block.linear2.bias = block.linear2.bias.at[3].add(3000.0)
    tokens = mx.array(np.random.default_rng(1).integers(0, 6561, (1, 40)))

    def mel() -> mx.array:
        *_, frames = network(
            tokens[:, 15:],
            prompt_tokens=tokens[:, :15],
            prompt_mel=log_mel(30),
            x_vector=normal(1, GOLDEN.s3gen.speaker_embedding, seed=2),
            noise=normal(1, 80, GOLDEN.s3gen.mels, seed=3),
        )
        return frames

    exact = plain(monkeypatch, mel)
    network.set_dtype(dtype)
    half = np.array(mel())
    assert np.isfinite(half).all()
    assert relative(half, exact) < (2e-3 if dtype == mx.float16 else 6e-3)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_logits_in_half_precision(
    gpu: str, dtype: mx.Dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TurboT3(T3)
    trained_like(model)
    model.tfmr.h[1].mlp.c_proj.bias = model.tfmr.h[1].mlp.c_proj.bias.at[5].add(3000.0)
    condition = Condition(normal(1, 256), mx.array([[5, 9, 700, 6000]]))

    def logits() -> mx.array:
        cache = model.make_cache()
        mlx_forward(model, model.prefix(condition), cache, [0])
        return mlx_forward(model, model.embed_input(mx.arange(20)), cache, [cache.offset])

    exact = plain(monkeypatch, logits)
    model.set_dtype(dtype)
    half = np.array(logits())
    assert np.isfinite(half).all()
    assert relative(half, exact) < (2e-3 if dtype == mx.float16 else 6e-3)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_snake_in_half_precision_of_any_alpha(gpu: str, dtype: mx.Dtype) -> None:
    """An alpha of 1e-8 made NaN in float16, and the audio silent."""
    alpha = mx.array([0, 1e-9, 1e-8, 1e-7, 1e-4, 1.0, 20.0]).astype(dtype)
    x = mx.broadcast_to(mx.linspace(-50, 50, 101)[None, :, None], (1, 101, 7)).astype(dtype)
    ours = np.array(ops.snake(x, alpha).astype(mx.float32), np.float64)
    wide = np.array(x.astype(mx.float32), np.float64)
    a = np.array(alpha.astype(mx.float32), np.float64)
    exact = wide + np.sin(a * wide) ** 2 / (a + 1e-9)
    assert np.isfinite(ours).all()
    assert relative(ours, exact) < (1e-3 if dtype == mx.float16 else 1e-2)


def test_activations_of_the_largest_halves_are_finite(gpu: str) -> None:
    x = mx.array([[[-65504.0, -40000.0, 40000.0, 65504.0]]]).astype(mx.float16)
    for name in ("gelu", "gelu_tanh", "mish", "silu", "elu"):
        y = np.array(getattr(activations, name)(x).astype(mx.float32))[0, 0]
        assert np.isfinite(y).all(), name
        assert y[2:].tolist() == [40000.0, 65504.0], name


# Device


def test_the_device_is_the_threads_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """``with mx.stream(mx.cpu)`` in another thread changed the device of a graph half built."""
    monkeypatch.setattr(device, "_FORCED", "0")
    with ops.pinned(mx.Device(mx.cpu)):
        gpu = SimpleNamespace(type=mx.DeviceType.gpu)
        with mock.patch.object(mx, "default_device", lambda: gpu):  # another thread's doing
            assert not ops.on_gpu()
    assert device.device() == mx.default_device()


def test_pins_of_two_devices_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[object] = ["first"]
    monkeypatch.setattr(mx, "default_device", lambda: chosen[-1])
    monkeypatch.setattr(mx, "set_default_device", chosen.append)
    entered = threading.Event()

    def other() -> None:
        with ops.pinned("second"):  # type: ignore[arg-type]
            entered.set()

    with ops.pinned("first"):  # type: ignore[arg-type]
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.1)
    thread.join(5)
    assert entered.is_set()
    assert chosen == ["first", "first", "first", "second", "first"]


def test_a_device_that_the_application_sets_meanwhile_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen: list[object] = ["first"]
    monkeypatch.setattr(mx, "default_device", lambda: chosen[-1])
    monkeypatch.setattr(mx, "set_default_device", chosen.append)
    with ops.pinned("first"):  # type: ignore[arg-type]
        chosen.append("the application's")
    assert chosen[-1] == "the application's"


def test_switch_and_defaults_of_mlx_come_from_the_environment() -> None:
    code = (
        "import os; from mlx_audio_turbo.ops import device, on_gpu; print(on_gpu(), "
        "device.on_cuda(), os.environ['MLX_ENABLE_TF32'], os.environ['MLX_CUDA_CONV_CACHE_SIZE'])"
    )

    def run(**environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert run(MLX_AUDIO_TURBO_FORCE_GPU_PATH="1") == "True False 0 1024"
    set_by_user = run(MLX_AUDIO_TURBO_FORCE_GPU_PATH="cuda", MLX_CUDA_CONV_CACHE_SIZE="7")
    assert set_by_user == "True True 0 7"


def test_products_keep_their_threads_on_a_gpu(gpu: str) -> None:
    with mock.patch.object(parallel, "one_thread") as one_thread:
        with parallel.products_on_one_thread():
            pass
        one_thread.assert_not_called()


def test_masks_are_copied_for_cudnn(gpu: str) -> None:
    """cuDNN refuses a view with odd strides, as the conformer's bias is at every eighth length."""
    scores = normal(1, 2, 9, 17)
    bias = conformer.relative_shift(scores)
    q = normal(1, 2, 9, 16)
    with mock.patch.object(mx, "contiguous", wraps=mx.contiguous) as copy:
        ops.attention(q, q, q, scale=0.25, mask=bias)
    assert copy.called == (gpu == "cuda")


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


def ledger(function: Callable[..., mx.array], *arguments: mx.array) -> list[dict]:
    """The primitives of a graph, with the shapes and types of what they make."""
    found: list[dict] = []
    with mock.patch.object(mx, "contiguous", lambda x, *_: x):
        mx.export_function(found.append, function, *arguments)
    return [each for each in found if each["type"] == "primitive"]


def largest(primitives: list[dict]) -> int:
    """Bytes of the largest array that is no view."""
    sizes = [
        int(np.prod(shape)) * dtype.size
        for each in primitives
        if each["name"] not in VIEWS
        for _, shape, dtype in each["outputs"]
    ]
    return max(sizes)


def half(module: nn.Module) -> Any:
    """Lazy weights in float16, as on a GPU."""
    module.update(
        tree_map_with_path(lambda _, a: mx.zeros(a.shape, mx.float16), module.parameters())
    )
    return module


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


def kernels(function: Callable[[mx.array], mx.array], x: mx.array) -> Counter[str]:
    """Primitives that are no views, with normalisation and attention as one each."""
    text = io.StringIO()
    with (
        mock.patch.object(mx.fast, "layer_norm", lambda x, w, b, eps: mx.cumsum(x, -1)),
        mock.patch.object(mx.fast, "scaled_dot_product_attention", lambda q, *_, **__: mx.abs(q)),
    ):
        mx.export_to_dot(text, function(x))
    names = re.findall(r'label ?= ?"([A-Za-z]+)[^"]*", shape=rect', text.getvalue())
    return Counter(name for name in names if name not in VIEWS)


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
