"""No NaN and no infinity leaves the model, whatever its cause."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import (
    AudioError,
    ChatterboxTurbo,
    ModelFolderError,
    Speech,
    TurboError,
    Voice,
    VoiceConverter,
)
from mlx_audio_turbo.audio.files import FORMATS, encode_audio, to_int16, write_audio
from mlx_audio_turbo.errors import NotFiniteError
from mlx_audio_turbo.hift.generator import HiFTGenerator
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo.t3.turbo import TurboT3

from .conftest import CLIP

TENSORS = ("t3.tfmr.h.0.attn.c_attn.weight", "s3gen.flow.", "s3gen.mel2wav.", "ve.")


@pytest.mark.parametrize("prefix", TENSORS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(
    tiny_folder: Path, tmp_path: Path, prefix: str, value: float
) -> None:
    folder, name = spoiled(tiny_folder, tmp_path, prefix, value)
    with pytest.raises(ModelFolderError, match=rf"{name} has values that are not finite"):
        ChatterboxTurbo.from_pretrained(folder)


def test_a_weight_of_the_s3_tokenizer_is_named_where_a_voice_is_made(
    tiny_folder: Path, tmp_path: Path, voice: Voice
) -> None:
    folder, name = spoiled(tiny_folder, tmp_path, "s3tokenizer.", np.nan)
    model = ChatterboxTurbo.from_pretrained(folder)
    for _ in range(2):
        with pytest.raises(ModelFolderError, match=rf"{name} has values that are not finite"):
            model.encode_voice(CLIP)
    with pytest.raises(ModelFolderError, match=rf"{name} has values that are not finite"):
        VoiceConverter.of(model).convert(CLIP, voice=voice)
    assert model.generate("Hello.", voice=voice, max_tokens=5).duration > 0


def spoiled(tiny_folder: Path, tmp_path: Path, prefix: str, value: float) -> tuple[Path, str]:
    """A folder with a bad value in the first tensor that begins so, and the tensor's name."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(each for each in sorted(weights) if each.startswith(prefix))
    weights[name] = weights[name].copy()
    weights[name].flat[-1] = value
    save_file(weights, folder / "model.safetensors")
    return folder, name


def test_a_weight_too_large_for_half_precision_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(each for each in sorted(weights) if each.startswith("s3gen.flow."))
    weights[name] = weights[name].astype(np.float32)
    weights[name].flat[0] = 1e6
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        ModelFolderError, match="has values that are too large for float16; load it as float32"
    ):
        ChatterboxTurbo.from_pretrained(folder, dtype=mx.float16)
    ChatterboxTurbo.from_pretrained(folder, dtype=mx.float32)


def spoil(result: Any) -> Any:
    """A result of a network, with one value that is not finite."""
    if isinstance(result, mx.array):
        return mx.where(mx.arange(result.size).reshape(result.shape) == 0, mx.nan, result)
    return (spoil(each) for each in result)


def logits_of(make_forward: Callable[..., Any]) -> Callable[..., Any]:
    def make(self: Any) -> Any:
        forward = make_forward(self)
        return lambda *args: spoil(forward(*args))

    return make


def results_of(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **options: spoil(call(self, *args, **options))


STAGES = {
    "T3": (TurboT3, "make_forward", logits_of),
    "S3Gen": (TokenToMel, "__call__", results_of),
    "HiFT": (HiFTGenerator, "decode", results_of),
}


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kind, method, wrap = STAGES[request.param]
    monkeypatch.setattr(kind, method, wrap(getattr(kind, method)))
    return request.param


@pytest.fixture
def spoilt(stage: str, tiny_folder: Path) -> Iterator[ChatterboxTurbo]:
    yield ChatterboxTurbo.from_pretrained(tiny_folder)


def test_a_stage_that_is_not_finite_is_named(
    spoilt: ChatterboxTurbo, stage: str, voice: Voice
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: spoilt.generate("Hello.", voice=voice, max_tokens=20),
        lambda: next(iter(spoilt.stream("Hello.", voice=voice, max_tokens=40))),
        lambda: list(spoilt.generate_batch(["One.", "Two."], voice=voice, max_tokens=20)),
    ]
    if stage != "T3":
        calls.append(lambda: spoilt.render(np.arange(20), voice=voice))
    for call in calls:
        with pytest.raises(NotFiniteError, match=f"^{stage} gave a value") as caught:
            call()
        assert isinstance(caught.value, TurboError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("suffix", FORMATS)
def test_no_format_takes_samples_that_are_not_finite(
    tmp_path: Path, suffix: str, value: float
) -> None:
    samples = np.zeros(2400, np.float32)
    samples[1200] = value
    speech = Speech(audio=samples, text="", tokens=np.zeros(0, np.int32), seed=0)
    path = tmp_path / f"out.{suffix}"
    for attempt in (
        lambda: speech.save(path),
        lambda: write_audio(path, samples, 24_000),
        lambda: encode_audio(samples, 24_000, suffix),
        lambda: to_int16(samples),
    ):
        with pytest.raises(AudioError, match="NaN or infinite"):
            attempt()
    assert list(tmp_path.iterdir()) == []
