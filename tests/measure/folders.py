"""Folders of random weights of the published sizes, each made once."""

from __future__ import annotations

from pathlib import Path

from mlx_audio_turbo.config import Quantization
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert.source import recognise

STORED = {
    "float32": ("float32", 0),
    "float16": ("float16", 0),
    "8 bits": ("float16", 8),
    "4 bits": ("float16", 4),
}
"""The type of a folder's floats and the bits of T3's blocks, by what the tables call it."""
GROUP = 64


def stored(checkpoint: Path, kind: str, *, work: Path) -> Path:
    """The folder of a checkpoint with T3 in one of :data:`STORED`, made in ``work``."""
    dtype, bits = STORED[kind]
    place = work / f"{checkpoint.name}-{kind.replace(' ', '-')}"
    if not place.exists():
        quantization = Quantization(bits, GROUP) if bits else None
        folder.convert(recognise(checkpoint), place, dtype=dtype, quantization=quantization)
    return place
