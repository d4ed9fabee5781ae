"""Checkpoints in the upstream layout with seeded random weights, where no trained one is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.config import ModelConfig, to_json
from mlx_audio_turbo.errors import ModelFolderError

from .. import upstream
from ..atomic_folder import new_folder
from ..safetensors_writer import Tensor, write
from ..tokenizer import LEGACY_FILES, build_tokenizer, byte_level_files
from . import shapes
from .random_init import draw

RECIPE_VERSION = 1
"""Goes up with any change of names, shapes or values, so that caches are made again."""


def tables(config: ModelConfig, t3_file: str) -> dict[str, dict[str, Tensor]]:
    """Every tensor of every upstream file of a model of these sizes."""
    return {
        t3_file: shapes.t3(config.t3),
        upstream.S3GEN_FILE: shapes.s3gen(config),
        upstream.VOICE_ENCODER_FILE: shapes.voice_encoder(config.voice_encoder),
    }


def write_checkpoint(
    output: Path,
    *,
    config: ModelConfig,
    name: str,
    seed: int = 0,
    tokenizer: Path | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write an untrained checkpoint in the upstream layout, whole or not at all.

    Args:
        output: the folder to make.
        name: what the model calls itself; the T3 file is ``t3_{name}_v1.safetensors``.
        tokenizer: a folder whose tokenizer files to copy; by default one token per byte, and the
            tags.
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
            yield key, draw(key, tensor, seed=seed)
            done += tensor.bytes
            if progress:
                progress(done, total)

    with new_folder(output, force=force) as folder:
        if tokenizer is None:
            byte_level_files(folder, vocabulary=config.t3.text_vocabulary)
        else:
            _copy_tokenizer(tokenizer, folder, config.t3.text_vocabulary)
        for filename, table in files.items():
            write(folder / filename, table, arrays(table))
        description: dict[str, Any] = {
            "variant": name,
            "family": f"untrained-{name}-{seed}",
            "trained": False,
            "seed": seed,
            **to_json(config),
        }
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n", "utf-8")
        (folder / "README.md").write_text(_README.format(name=name, seed=seed), "utf-8")
    return output


def _copy_tokenizer(source: Path, target: Path, vocabulary: int) -> None:
    size = build_tokenizer(source).get_vocab_size()
    if size != vocabulary:
        raise ModelFolderError(
            f"the tokenizer in {source} has {size} ids where the model has {vocabulary}; "
            "choose another size or tokenizer"
        )
    for name in LEGACY_FILES:
        shutil.copyfile(source / name, target / name)


_README = """\
# Untrained weights

Every tensor in this folder is random (model `{name}`, seed {seed}). The layout is that of the
published Chatterbox checkpoint, so all code paths run on it, but what comes out is **noise, not
speech**. It is for tests, demonstrations and measurements of speed.
"""
