"""``mlx-community/S3TokenizerV2``: the S3 tokenizer that other converters' folders lack."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlx_audio_turbo.errors import DownloadError
from mlx_audio_turbo.loading import hub

from .. import layout, rules
from ..mapping import s3_tokenizer
from ..rules import Drop, Rule
from ..safetensors_writer import Reader

REPOSITORY = "mlx-community/S3TokenizerV2"
MODEL_TYPE = "s3_tokenizer_v2"
FILE = "model.safetensors"
REMEDY = f"fetch it with: hf download {REPOSITORY} {FILE}"


def _renamed(name: str) -> str:
    name = name.removeprefix("tokenizer.").replace("._codebook.", ".fsq_codebook.")
    return re.sub(r"\.mlp\.", ".mlp.layers.", name)


RULES: list[Rule | Drop] = [
    # The upstream table; the convolutions are in MLX's layout already.
    *(
        replace(item, sources=tuple(map(_renamed, item.sources)), move=layout.copy)
        for item in s3_tokenizer.RULES
        if isinstance(item, Rule)
    ),
    Drop("onnx::{path}", "a constant of the graph that the weights were taken from"),
]


def find(folder: Path, *, network: bool) -> Path | None:
    """The file, from a folder beside ``folder`` or from the Hub; None where it cannot be had.

    Args:
        network: ask the Hub; else only its cache on this machine.
    """
    beside = folder.parent / REPOSITORY.partition("/")[2] / FILE
    if beside.is_file():
        return beside
    try:
        path = hub.download(REPOSITORY, [FILE], network=network) / FILE
    except DownloadError:
        return None
    return path if path.is_file() else None


def tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of ``shapes`` in turn, out of the file at ``path``.

    Raises:
        ModelFolderError: the file is damaged or does not hold them.
    """
    reader = Reader(path, remedy=f"{REMEDY} --force-download")
    return rules.apply(rules.plan(RULES, reader.tensors), reader.read, shapes)
