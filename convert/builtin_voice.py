"""The built-in voice that upstream ships: ``conds.pt`` to ``conds.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.presets import VOICE_FILE

from . import torch_pickle
from .safetensors_writer import Reader, Tensor, write

SOURCE = "conds.pt"
TARGET = VOICE_FILE
_AGAIN = "download it again"

WARNING = (
    "The built-in voice is a person's whom its publisher does not name: nothing shows that "
    "the speaker agreed. Do not publish speech or folders made with it."
)

_FIELDS: dict[str, tuple[tuple[int | None, ...], str]] = {
    "t3.speaker_emb": ((1, 256), "F32"),
    "t3.cond_prompt_speech_tokens": ((1, None), "I32"),
    "gen.prompt_token": ((1, None), "I32"),
    "gen.prompt_token_len": ((1,), "I32"),
    "gen.prompt_feat": ((1, None, 80), "F32"),
    "gen.embedding": ((1, 192), "F32"),
}
"""What a voice needs, with its shape (None: any length) and its type; the rest is not read."""


def convert_voice(source: Path, target: Path, *, remedy: str = _AGAIN) -> None:
    """Write the voice in the file ``source`` of ``torch.save`` as safetensors at ``target``.

    Raises:
        ModelFolderError: ``source`` is absent, damaged, no voice, or asks to run anything.
    """
    contents = torch_pickle.read(source, remedy=remedy)
    found = {name: array for name in _FIELDS if (array := _field(contents, name)) is not None}
    _write(found, source, target, remedy=remedy)


def _write(found: Mapping[str, np.ndarray], source: Path, target: Path, *, remedy: str) -> None:
    tensors, arrays = {}, []
    for name, (shape, kind) in _FIELDS.items():
        array = found.get(name)
        if array is None or not _fits(array, shape, kind):
            what = "is missing" if array is None else f"is {array.dtype} {array.shape}"
            raise ModelFolderError(f"{source} is no voice of this model: {name} {what}; {remedy}")
        array = array.astype(np.float32 if kind == "F32" else np.int32)
        tensors[name] = Tensor(kind, array.shape)
        arrays.append((name, array))
    write(target, tensors, arrays)


def copy_voice(source: Path, target: Path) -> None:
    """Put the voice of another MLX folder, already safetensors, at ``target``.

    Raises:
        ModelFolderError: ``source`` is absent, damaged or no voice.
    """
    reader = Reader(source)
    _write({name: reader.read(name) for name in reader.tensors}, source, target, remedy=_AGAIN)


def _field(contents: Any, name: str) -> np.ndarray | None:
    group, _, key = name.partition(".")
    values = contents.get(group) if isinstance(contents, dict) else None
    array = values.get(key) if isinstance(values, dict) else None
    return array if isinstance(array, np.ndarray) else None


def _fits(array: np.ndarray, shape: tuple[int | None, ...], kind: str) -> bool:
    kinds = "f" if kind == "F32" else "iu"
    return (
        array.dtype.kind in kinds
        and array.ndim == len(shape)
        and all(
            extent == wanted if wanted else extent > 0
            for extent, wanted in zip(array.shape, shape, strict=True)
        )
        and bool(np.all(np.isfinite(array)))
    )
