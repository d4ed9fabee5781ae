"""Any model by its name: the folder says which class it needs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

from ..errors import ModelFolderError
from ..loading import catalog
from .base import Model

CLASSES = {
    "chatterbox_turbo": ("turbo", "ChatterboxTurbo"),
    "chatterbox": ("chatterbox", "Chatterbox"),
    "chatterbox_multilingual": ("multilingual", "ChatterboxMultilingual"),
}
"""The module and the class for each ``model_type`` of a folder."""


def model_class(folder: Path) -> type[Model]:
    """The class that loads a model folder.

    Raises:
        ModelFolderError: ``config.json`` is absent, damaged, or of no known model.
    """
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
        module, name = CLASSES[values["model_type"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise ModelFolderError(
            f"{folder} is no model folder of this converter; convert the model again"
        ) from None
    return getattr(importlib.import_module(f".{module}", __package__), name)


def load_model(model: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Model:
    """Load a model of any kind by folder, Hub id or name; see :meth:`Model.from_pretrained`.

    Args:
        progress: called with the bytes done so far and in all while a checkpoint is converted.
    """
    folder = catalog.resolve(model, progress=progress)
    return model_class(folder).from_pretrained(folder)
