"""The one function that the run time calls: a model folder for a name or checkpoint.

Finished folders are loaded without it. What is imported depends on what must be made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlx_audio_turbo.config import ModelConfig
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.presets import MADE

from .cache import cache_key, make_once, states

Progress = Callable[[int, int], None]


def ensure(
    model: str | Path,
    cache: Path,
    *,
    revision: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """The model folder of ``model``, made once in ``cache``, in float16.

    A published model that was made is taken as it is, without asking the Hub.

    Args:
        model: a name of ``presets.MADE`` or ``PUBLISHED``, a Hub id of the latter, or a folder with
            a checkpoint in the upstream layout or of another MLX converter.
        revision: commit of a published model; by default the one whose files are known, or the
            newest.
        progress: called with the bytes done so far and in all, first of checking, then of writing.

    Returns:
        The folder in ``cache``; a folder that is none of these is returned as it is, so that the
        loader says what it lacks.

    Raises:
        ModelFolderError: a checkpoint is damaged or incomplete, or ``cache`` cannot be written.
        DownloadError: a published model was not made yet and the Hub could not be reached.
    """
    if isinstance(model, str) and model in MADE:
        from .synthetic import tiny

        return tiny.ensure(cache, model)
    if isinstance(model, str):
        return _published(model, cache, revision=revision, progress=progress)
    if any(model.glob("t3_*.safetensors")) and not (model / "model.safetensors").exists():
        return _checkpoint(model, cache, progress=progress)
    from .third_party import build

    return build.resolve(model, cache)


def _published(name: str, cache: Path, *, revision: str | None, progress: Progress | None) -> Path:
    from . import folder, published, source

    known = published.find(name)
    if known is None:
        raise ModelFolderError(
            f"{name} is no published model; choose {', '.join(published.MODELS)}"
        )
    commit = revision or known.revision
    sums = [(file.name, file.sha256) for file in known.files]
    output = cache / (
        f"{known.variant}-float16-{cache_key(known.config, known.repository, commit, sums)}"
    )
    if not (output / "config.json").is_file():
        found = source.resolve(known.variant, revision=revision, progress=progress)
        _prepare(found.config)
        make_once(output, lambda: folder.convert(found, output, dtype="float16", progress=progress))
    return output


def _checkpoint(place: Path, cache: Path, *, progress: Progress | None) -> Path:
    from . import folder, published, source

    found = source.recognise(place)
    output = cache / (f"{found.variant}-float16-{cache_key(found.config, *states(found.weights))}")
    if not (output / "config.json").is_file():
        known = published.MODELS.get(found.variant)
        if found.repository and known:
            published.check_files(place, known, remedy=found.remedy, progress=progress)
        if known:
            _prepare(found.config)
        make_once(output, lambda: folder.convert(found, output, dtype="float16", progress=progress))
    return output


def _prepare(config: ModelConfig) -> None:
    """Compile while the folder is written."""
    from mlx_audio_turbo.loading.kernels import prepare

    prepare(config, quantization=None, floats="float16")
