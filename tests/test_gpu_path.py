"""The code path of a GPU, run on the CPU: half precision, device, shapes, memory, kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo import ops
from mlx_audio_turbo.encoders.s3_tokenizer import MemoryAttention
from mlx_audio_turbo.hift.generator import HiFTGenerator
from mlx_audio_turbo.ops import activations, cuda_kernels, device, parallel
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo.s3gen import conformer

from .gpu_path import log_mel, on_cpus_path, trained_like
from .half_works import WORKS, Half
from .helpers import normal, relative, snr

HALVES = [mx.float16, mx.bfloat16]


# Half precision. Beside a fixed bound: at most three times what rounding the weights costs.


def test_vocoder_on_a_gpu_equals_the_cpus(gpu: str) -> None:
    network = HiFTGenerator(TINY.hift)
    trained_like(network)
    source = 0.1 * normal(1, 12 * 480, 1, seed=6)

    def audio() -> mx.array:
        return network.decode(log_mel(12), source)

    with on_cpus_path():
        exact = np.array(audio())
    assert exact.std() > 1e-3
    assert snr(np.array(audio()), exact) > 45
    network.set_dtype(mx.float16)
    assert np.isfinite(np.array(audio())).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["mel, mean flow", "mel, guided flow"])
def test_mel_in_half_precision(gpu: str, dtype: mx.Dtype, name: str) -> None:
    """In a model in bfloat16 S3Gen is in float16."""
    half = Half(WORKS[name](0), dtype)
    assert half.whole() < min(3 * half.of_weights(), 2e-3)


@pytest.mark.parametrize(("dtype", "bound"), [(mx.float16, 2e-3), (mx.bfloat16, 6e-3)], ids=str)
def test_logits_in_half_precision(gpu: str, dtype: mx.Dtype, bound: float) -> None:
    half = Half(WORKS["logits, Turbo"](0), dtype)
    assert half.whole() < min(3 * half.of_weights(), bound)


def test_the_originals_logits_in_float16(gpu: str) -> None:
    changes = [Half(WORKS["logits, original"](seed), mx.float16).whole() for seed in range(8)]
    assert np.mean(changes) < 2e-3


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["S3 tokenizer", "VoiceEncoder", "CAM++", "logits, original"])
def test_other_networks_in_half_precision(gpu: str, dtype: mx.Dtype, name: str) -> None:
    """Those that read a clip compute in float32, on matrices in float16."""
    half = Half(WORKS[name](0), dtype)
    of_weights = half.of_weights()
    assert half.whole() < 3 * of_weights
    t3_in_bfloat16 = name == "logits, original" and dtype == mx.bfloat16
    assert of_weights < (1e-2 if t3_in_bfloat16 else 2.1e-3)


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


def test_kernels_of_cuda_are_kept_in_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """MLX keeps them in the folder for temporary files; compiling them again takes a minute."""
    monkeypatch.setenv("MLX_AUDIO_TURBO_CACHE", str(tmp_path))
    monkeypatch.delenv(cuda_kernels.VARIABLE, raising=False)

    def place() -> str | None:
        cuda_kernels.keep_compiled()
        return os.environ.get(cuda_kernels.VARIABLE)

    assert place() is None  # no CUDA here
    monkeypatch.setattr(mx.cuda, "is_available", lambda: True)
    assert place() is None  # the CPU of a machine with CUDA
    monkeypatch.setattr(cuda_kernels, "device", lambda: mx.Device(mx.gpu, 0))
    monkeypatch.setattr(mx, "device_info", lambda _: {"architecture": "sm_90"})
    expected = tmp_path / f"cuda-{metadata.version('mlx')}-sm_90"
    assert place() == str(expected) and expected.is_dir()
    monkeypatch.setenv(cuda_kernels.VARIABLE, "/of/the/user")
    assert place() == "/of/the/user"
    monkeypatch.delenv(cuda_kernels.VARIABLE)
    monkeypatch.setenv("MLX_AUDIO_TURBO_CACHE", str(tmp_path / "file" / "below"))
    (tmp_path / "file").touch()
    assert place() is None  # no folder can be made
