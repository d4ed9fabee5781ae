"""What many tests share: the tiny model, made once, and a clip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Where it is set, the commands that tests start write at once, and a user's do not.
os.environ.pop("PYTHONUNBUFFERED", None)

CLIP = Path(__file__).parent / "data" / "1069-133699-0000.flac"


@pytest.fixture(scope="session", autouse=True)
def fast_products() -> None:
    """The BLAS that a loaded model would use, for tests of single networks too."""
    from mlx_audio_turbo.ops import blas

    blas.load()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of our own, so that the user's stays as it is; commands in tests get it too."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["MLX_AUDIO_TURBO_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(cache: Path) -> Path:
    from mlx_audio_turbo_convert.synthetic.tiny import ensure

    return ensure(cache)


@pytest.fixture(scope="session")
def model(tiny_folder: Path):
    from mlx_audio_turbo import ChatterboxTurbo

    return ChatterboxTurbo.from_pretrained(tiny_folder)


@pytest.fixture(scope="session")
def voice(model):
    return model.encode_voice(CLIP)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Hub, whatever the machine has: an empty cache and a proxy that nobody answers."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(params=["metal", "cuda"])
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The path of this back end; without compiled kernels, for which the CPU needs a compiler."""
    import mlx.core as mx

    from mlx_audio_turbo.ops import device

    monkeypatch.setattr(device, "_FORCED", request.param)
    mx.disable_compile()
    yield request.param
    mx.enable_compile()
