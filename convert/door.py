"""The one function that the run time calls: a model folder for whatever names a model.

A folder that is finished never comes here. What is imported depends on what must be made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_audio_turbo.presets import MADE

Progress = Callable[[int, int], None]


def ensure(
    model: str | Path,
    cache: Path,
    *,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The model folder of ``model``, made once in ``cache``.

    Args:
        model: a name of ``presets.MADE`` or ``PUBLISHED``, a Hub id of the latter, or a folder with
            a checkpoint in the upstream layout or of another MLX converter.
        revision: commit of a published model.
        progress: called with the bytes done so far and in all.

    Returns:
        The folder in ``cache``; a folder that is none of these is returned as it is, so that the
        loader says what it lacks.

    Raises:
        ModelFolderError: a checkpoint is damaged or incomplete, or ``cache`` cannot be written.
        DownloadError: a published model was not made yet and the Hub could not be reached.
    """
    if isinstance(model, str) and model in MADE:
        from .synthetic import tiny

        return tiny.ensure(cache)
    from . import folder

    if isinstance(model, str):
        return folder.ensure_published(model, cache, revision=revision, progress=progress)
    if any(model.glob("t3_*.safetensors")) and not (model / "model.safetensors").exists():
        return folder.ensure(model, cache, progress=progress)
    from .third_party import build

    return build.resolve(model, cache)
