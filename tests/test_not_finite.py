"""No number that is not finite leaves the model, whatever its cause."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import AudioError, ChatterboxTurbo, ModelFolderError, Voice
from mlx_audio_turbo.s3gen.model import TokenToMel

TENSORS = ("t3.tfmr.h.0.attn.c_attn.weight", "s3gen.flow.", "s3gen.mel2wav.", "ve.", "s3tokenizer.")


@pytest.mark.parametrize("prefix", TENSORS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_named(
    tiny_folder: Path, tmp_path: Path, prefix: str, value: float
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(each for each in sorted(weights) if each.startswith(prefix))
    weights[name] = weights[name].copy()
    weights[name].flat[-1] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelFolderError, match=rf"{name} has values that are not finite"):
        ChatterboxTurbo.from_pretrained(folder)


def test_a_weight_too_large_for_half_precision_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    weights = load_file(folder / "model.safetensors")
    name = next(each for each in sorted(weights) if each.startswith("s3gen.flow."))
    weights[name] = weights[name].astype(np.float32)
    weights[name].flat[0] = 1e6
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        ModelFolderError, match="has values too large for float16; load it as float32"
    ):
        ChatterboxTurbo.from_pretrained(folder, dtype=mx.float16)
    ChatterboxTurbo.from_pretrained(folder, dtype=mx.float32)


@pytest.mark.parametrize("way", ["generate", "stream", "batch", "render"])
def test_audio_that_is_not_finite_is_an_error(
    model: ChatterboxTurbo, voice: Voice, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An overflow inside the network, which no check of the weights foresees."""
    plain = TokenToMel.__call__

    def overflows(self: TokenToMel, *arguments: mx.array, **options: mx.array):
        for state in plain(self, *arguments, **options):  # pyright: ignore
            yield state * float("inf")

    monkeypatch.setattr(TokenToMel, "__call__", overflows)
    with pytest.raises(AudioError, match="audio that is not finite"):
        if way == "generate":
            model.generate("Hello.", voice=voice, seed=1, max_tokens=5)
        elif way == "stream":
            list(model.stream("Hello.", voice=voice, seed=1, max_tokens=40))
        elif way == "batch":
            list(model.generate_batch(["Hello.", "Oh."], voice=voice, seed=1, max_tokens=5))
        else:
            model.render(np.arange(20), voice=voice)
