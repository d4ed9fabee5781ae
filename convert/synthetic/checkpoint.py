"""Checkpoints in the upstream layout with seeded random weights."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.config import ModelConfig, OriginalT3Config, to_json
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.presets import MULTILINGUAL_TYPE, TURBO_TYPE

from .. import published
from ..atomic_folder import new_folder
from ..safetensors_writer import Tensor, write
from ..tokenizer import (
    CANGJIE_FILE,
    LEGACY_FILES,
    MULTILINGUAL_FILE,
    TOKENIZER_FILE,
    build_tokenizer,
    byte_level_files,
    write_tokenizer,
)
from . import shapes
from .random_init import draw
from .tokenizer import character_files

RECIPE_VERSION = 1
"""Goes up with any change of names, shapes or values, so that caches are made again."""


def tables(config: ModelConfig, t3_file: str) -> dict[str, dict[str, Tensor]]:
    """Every tensor of every upstream file of a model of these sizes."""
    original = isinstance(config.t3, OriginalT3Config)
    s3gen = published.ORIGINAL_S3GEN if original else published.TURBO_S3GEN
    return {
        t3_file: shapes.t3(config.t3),
        s3gen: shapes.s3gen(config),
        published.VOICE_ENCODER_FILE: shapes.voice_encoder(config.voice_encoder),
    }


def write_checkpoint(
    output: Path,
    *,
    config: ModelConfig,
    name: str,
    model_type: str = TURBO_TYPE,
    seed: int = 0,
    tokenizer: Path | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write an untrained checkpoint in the upstream layout, whole or not at all.

    Args:
        output: the folder to make.
        name: what the model calls itself; the T3 file is ``t3_{name}_v1.safetensors``.
        model_type: of the folder that it becomes.
        tokenizer: a folder whose tokenizer files to copy; by default one token per byte or
            character, and the tags.
        force: replace what is at ``output``.
        progress: called with the bytes written so far and in all.

    Raises:
        ModelFolderError: ``output`` exists, or ``tokenizer`` lacks a file.
    """
    files = tables(config, f"t3_{name}_v1.safetensors")
    total = sum(tensor.bytes for table in files.values() for tensor in table.values())
    done = 0

    def arrays(table: Mapping[str, Tensor]) -> Iterator[tuple[str, np.ndarray]]:
        nonlocal done
        for key, tensor in table.items():
            array = draw(key, tensor, seed=seed, kind=config.t3.kind)
            if isinstance(config.t3, OriginalT3Config) and key == "speech_head.weight":
                from .original_head import shift  # imports mlx-lm

                shift(array, config.t3, table, seed=seed)
            yield key, array
            done += tensor.bytes
            if progress:
                progress(done, total)

    with new_folder(output, force=force) as folder:
        multilingual = model_type == MULTILINGUAL_TYPE
        if tokenizer is not None:
            _copy_tokenizer(tokenizer, folder, config, multilingual=multilingual)
        elif isinstance(config.t3, OriginalT3Config):
            character_files(folder, config.t3, multilingual=multilingual)
        else:
            byte_level_files(folder, vocabulary=config.t3.text_vocabulary)
        for filename, table in files.items():
            write(folder / filename, table, arrays(table))
        description: dict[str, Any] = {
            "variant": name,
            "model_type": model_type,
            "family": f"untrained-{name}-{seed}",
            "trained": False,
            "seed": seed,
            **to_json(config),
        }
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        (folder / "README.md").write_text(_README.format(name=name, seed=seed), "utf-8")
    return output


def _copy_tokenizer(source: Path, target: Path, config: ModelConfig, *, multilingual: bool) -> None:
    if isinstance(config.t3, OriginalT3Config):
        with tempfile.TemporaryDirectory() as place:  # for its checks
            write_tokenizer(source, Path(place), config.t3, multilingual=multilingual)
        names = (MULTILINGUAL_FILE, CANGJIE_FILE) if multilingual else (TOKENIZER_FILE,)
    else:
        size, names = build_tokenizer(source).get_vocab_size(), LEGACY_FILES
        if size != config.t3.text_vocabulary:
            raise ModelFolderError(
                f"the tokenizer in {source} has {size} ids where the model has "
                f"{config.t3.text_vocabulary}; choose another size or tokenizer"
            )
    for name in names:
        shutil.copyfile(source / name, target / name)


_README = """\
# Untrained weights

Every tensor in this folder is random (model `{name}`, seed {seed}). The layout is that of the
published Chatterbox checkpoint, so all code paths run on it, but what comes out is **noise, not
speech**. It is for tests, demonstrations and measurements of speed.
"""
