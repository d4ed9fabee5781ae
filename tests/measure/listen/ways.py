"""The ways to make the same speech: calls, kinds of folders, paths on the CPU."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, Voice
from mlx_audio_turbo.config import Quantization
from mlx_audio_turbo.files.safetensors_reader import Reader
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.options import TrimOptions
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward
from mlx_audio_turbo_convert import quantize
from mlx_audio_turbo_convert.folder import write_weights

SEED = 0
"""Of every text, so that the ways differ in nothing else: a batch has one seed."""
GROUP = 32
"""Divides the widths of ``demo``."""

Way = Callable[[ChatterboxTurbo, Sequence[str], Voice], Iterator[np.ndarray]]


def whole(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for text in texts:
        yield model.generate(text, voice=voice, seed=SEED).audio


def streamed(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for text in texts:
        yield np.concatenate([c.audio for c in model.stream(text, voice=voice, seed=SEED)])


def batched(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for speech in model.generate_batch(texts, voice=voice, seed=SEED):
        yield speech.audio


def trimmed(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    for text in texts:
        yield model.generate(text, voice=voice, seed=SEED, trim=TrimOptions()).audio


def by_mlx(model: ChatterboxTurbo, texts: Sequence[str], voice: Voice) -> Iterator[np.ndarray]:
    """T3 in MLX's form, which a GPU takes, on the current device."""

    def make_forward(t3: TurboT3) -> Any:
        return partial(mlx_forward, t3)

    with mock.patch.object(TurboT3, "make_forward", make_forward):
        yield from whole(model, texts, voice)


def quantized(bits: int, output: Path) -> Path:
    """The folder of ``demo`` with T3's blocks in ``bits`` bits, made by the converter's parts."""
    source = resolve("demo")
    shutil.copytree(source, output)
    config = json.loads((source / "config.json").read_text("utf-8"))
    quantization = Quantization(bits, GROUP)
    sizes = ChatterboxTurbo.from_pretrained(source).config
    reader = Reader(source / "model.safetensors", remedy="")
    write_weights(
        ((name, reader.read(name)) for name in reader.tensors),
        output / "model.safetensors",
        quantize.targets(sizes, "F16", quantization=quantization),
        "F16",
        quantization,
    )
    config["quantization"] = dataclasses.asdict(quantization)
    (output / "config.json").write_text(json.dumps(config), "utf-8")
    return output
