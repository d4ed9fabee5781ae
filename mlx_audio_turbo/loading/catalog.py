"""The name of a model to its folder.

A finished folder is used as it is; whatever else must become one goes through one door, the
converter's ``ensure``.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from ..errors import ModelFolderError
from ..files.paths import cache_folder, user_path
from ..presets import BUNDLED, MADE, PUBLISHED
from .hub import download

VOICES = "voices"
"""The folder inside a model folder with its voices, each in a file of its name."""
DEFAULT_MODEL = PUBLISHED["turbo"]
"""The official checkpoint; converted once, then loaded from the cache."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def resolve(
    model: str | Path,
    *,
    revision: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of a model, which may be given by name, Hub id or path.

    ``demo`` comes with the package. Other names of ``presets`` (``turbo``, ``tiny``, ...) and their
    Hub ids are made once in the cache; a folder that is finished is returned as it is; a checkpoint
    in the upstream layout or of another MLX converter, local or on the Hub, is converted once into
    the cache.

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
    name = str(model)
    if name in BUNDLED:
        return _bundled(name)
    if name in MADE:
        return _make(name, revision=revision, progress=progress)
    folder = user_path(model)
    if not name or not folder.is_dir():
        if name and folder.exists():
            raise ModelFolderError(f"{folder} is a file; give the folder that holds config.json")
        if name in PUBLISHED or name in PUBLISHED.values():
            return _make(name, revision=revision, progress=progress)
        if not _HUB_ID.fullmatch(name):
            raise ModelFolderError(
                f"no model folder at {folder}; give a folder, a Hub id like {DEFAULT_MODEL}, or "
                f"one of {', '.join((*PUBLISHED, *BUNDLED, *MADE))}"
            )
        folder = download(name, revision=revision)
    return folder if _is_finished(folder) else _make(folder, progress=progress)


def model_voice(model: str | Path, name: str) -> Path | None:
    """The file of a voice that comes with a bundled model or a model folder, if there is one."""
    folder = _bundled(str(model)) if str(model) in BUNDLED else user_path(model)
    path = folder / VOICES / f"{name}.safetensors"
    return path if path.name == f"{name}.safetensors" and path.is_file() else None


def _bundled(name: str) -> Path:
    return Path(str(resources.files("mlx_audio_turbo") / "assets" / name))


def _is_finished(folder: Path) -> bool:
    """Whether this package's converter wrote the ``config.json`` of a folder."""
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {"architecture", "model_type", "version"} <= values.keys()


def _make(model: str | Path, **options: Any) -> Path:
    """The door to the converter, which no finished folder needs."""
    door = importlib.import_module("mlx_audio_turbo_convert.door")
    return door.ensure(model, cache_folder(), **options)
