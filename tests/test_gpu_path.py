"""The code path of a GPU, run on the CPU: half precision, device, shapes, memory, kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo import ops
from mlx_audio_turbo.config import T3Config
from mlx_audio_turbo.encoders.campplus import CAMPlus
from mlx_audio_turbo.encoders.s3_tokenizer import MemoryAttention, S3Tokenizer
from mlx_audio_turbo.encoders.voice_encoder import VoiceEncoder
from mlx_audio_turbo.hift.generator import HiFTGenerator
from mlx_audio_turbo.loading.networks import make_t3
from mlx_audio_turbo.ops import activations, device, parallel
from mlx_audio_turbo.presets import ORIGINAL_S3GEN, TINY, TINY_ORIGINAL_T3
from mlx_audio_turbo.s3gen import conformer
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo.t3 import original
from mlx_audio_turbo.t3.interface import Condition
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward

from .gpu_path import (
    log_mel,
    plain,
    round_weights,
    trained_like,
)
from .helpers import normal, relative, snr
from .measure.parity.sizes import GOLDEN

T3 = cast(T3Config, TINY.t3)
HALVES = [mx.float16, mx.bfloat16]


# Half precision. Beside a fixed bound: at most three times what rounding the weights costs.


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
    round_weights(network, dtype)
    of_weights = relative(plain(monkeypatch, mel), exact)
    network.set_dtype(dtype)
    half = np.array(mel())
    assert np.isfinite(half).all()
    assert relative(half, exact) < min(3 * of_weights, 2e-3 if dtype == mx.float16 else 6e-3)


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
    round_weights(model, dtype)
    of_weights = relative(plain(monkeypatch, logits), exact)
    model.set_dtype(dtype)
    half = np.array(logits())
    assert np.isfinite(half).all()
    assert relative(half, exact) < min(3 * of_weights, 2e-3 if dtype == mx.float16 else 6e-3)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["S3 tokenizer", "VoiceEncoder", "CAM++", "original's T3"])
def test_other_networks_in_half_precision(
    gpu: str, dtype: mx.Dtype, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that read a clip compute in float32, on weights in half precision."""
    config = TINY_ORIGINAL_T3
    network: Any = {
        "S3 tokenizer": lambda: S3Tokenizer(TINY.s3_tokenizer),
        "VoiceEncoder": lambda: VoiceEncoder(TINY.voice_encoder),
        "CAM++": lambda: CAMPlus(TINY.campplus),
        "original's T3": lambda: make_t3(config),
    }[name]()
    trained_like(network)
    log_mels = -4.75 + 6.75 * mx.tanh(normal(1, 200, TINY.s3_tokenizer.mels, seed=5))

    def work() -> mx.array:
        if name == "S3 tokenizer":
            return network.encode(log_mels)
        if name == "VoiceEncoder":
            return network.embed(mx.exp(log_mels[0, :, : TINY.voice_encoder.mels]))
        if name == "CAM++":
            return network(log_mels[..., : TINY.campplus.mels] + 4.75)
        condition = Condition(normal(1, 256), mx.array([[5, 9, 700, 6000]]), 0.7)
        cache = network.make_cache()
        x = mx.concatenate([network.prefix(condition), network.embed_input(mx.arange(20))], axis=1)
        return original.mlx_forward(network, x, cache, [0])

    exact = plain(monkeypatch, work)
    round_weights(network, dtype)
    of_weights = relative(plain(monkeypatch, work), exact)
    network.set_dtype(dtype)
    half = np.array(work().astype(mx.float32))
    assert np.isfinite(half).all()
    assert relative(half, exact) < 3 * of_weights
    assert of_weights < (2.1e-3 if dtype == mx.float16 else 1e-2)


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


def test_depthwise_convolutions_take_the_fast_way(gpu: str) -> None:
    """Metal's depthwise kernel takes no padding; cuDNN makes a plan for each shape."""
    network = MemoryAttention(TINY.s3_tokenizer)
    with mock.patch.object(mx, "conv1d", wraps=mx.conv1d) as conv:
        network.fsmn_block(normal(1, 20, TINY.s3_tokenizer.width))
    paddings = [call.args[3] for call in conv.call_args_list]
    assert paddings == ([0] if gpu == "metal" else [])


def test_masks_are_copied_for_cudnn(gpu: str) -> None:
    """cuDNN refuses a view with odd strides, as the conformer's bias is at every eighth length."""
    scores = normal(1, 2, 9, 17)
    bias = conformer.relative_shift(scores)
    q = normal(1, 2, 9, 16)
    with mock.patch.object(mx, "contiguous", wraps=mx.contiguous) as copy:
        ops.attention(q, q, q, scale=0.25, mask=bias)
    assert copy.called == (gpu == "cuda")
