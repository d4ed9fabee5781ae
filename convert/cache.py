"""The names of folders in the cache, and making each once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from mlx_audio_turbo.config import ModelConfig, to_dict
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.loading.networks import parameter_shapes

CACHE_VERSION = 4
"""Goes up when the same source would give another folder, so that caches are made again."""


def states(files: Iterable[Path]) -> list[tuple[str, int]]:
    """What tells files of the same name apart: where they are and when they were written."""
    return [(str(path.resolve()), path.stat().st_mtime_ns) for path in files]


def cache_key(config: ModelConfig, *sources: object) -> str:
    """Another key for other ``sources``, sizes, or tensors of a model folder."""
    parts = (CACHE_VERSION, to_dict(config), parameter_shapes(config), sources)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def make_once(output: Path, make: Callable[[], object]) -> None:
    """Call ``make``, unless another process makes the same folder first."""
    try:
        make()
    except ModelFolderError:
        if not (output / "config.json").is_file():
            raise
