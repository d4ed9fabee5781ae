"""The name of a model → its folder.

The only door to the converter. A finished folder is used without it.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs

from ..errors import ModelFolderError
from .hub import download

DEFAULT_MODEL = "ResembleAI/chatterbox-turbo"
"""The official checkpoint; converted once, then loaded from the cache."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def cache_folder() -> Path:
    """Where converted models are kept: ``MLX_AUDIO_TURBO_CACHE`` or the user's cache."""
    chosen = os.environ.get("MLX_AUDIO_TURBO_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("mlx_audio_turbo"))


def resolve(
    model: str | Path,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of a model: a path as it is, ``tiny`` made on the spot, a Hub id downloaded.

    A checkpoint in the upstream layout or in another MLX layout, local or on the Hub, is converted
    once into the cache. Of the official ones what is there is taken without asking the Hub.

    Args:
        revision: commit of a Hub repository.
        progress: called with the bytes done so far and in all where a checkpoint is converted.

    Raises:
        ModelFolderError: no such folder, and not a name that the Hub could know.
        DownloadError: the Hub could not be reached and the cache does not hold the model.
    """
    if not isinstance(model, (str, os.PathLike)):
        raise ModelFolderError(
            f"the model is a {type(model).__name__}; give a folder, a Hub id or 'tiny'"
        )
    if str(model) == "tiny":
        return _converter("synthetic.tiny").ensure(cache_folder())
    folder = Path(model).expanduser()
    if not str(model) or not folder.is_dir():
        if str(model) and folder.exists():
            raise ModelFolderError(f"{folder} is a file; give the folder that holds config.json")
        if not _HUB_ID.fullmatch(str(model)):
            raise ModelFolderError(
                f"no model folder at {folder}; give a folder, a Hub id like {DEFAULT_MODEL}, "
                "or 'tiny'"
            )
        if str(model) in _converter("upstream").REPOSITORIES:
            return _converter("folder").ensure_published(
                str(model), cache_folder(), revision=revision, progress=progress
            )
        folder = download(str(model), revision=revision)
    if (folder / "model.safetensors").exists() or not any(folder.glob("t3_*.safetensors")):
        return _converter("third_party.build").resolve(folder, cache_folder())
    return _converter("folder").ensure(folder, cache_folder(), progress=progress)


def _converter(module: str) -> Any:
    """A module of the converter, which the run time only knows when a model must be made."""
    return importlib.import_module(f"mlx_audio_turbo_convert.{module}")
