"""A checkpoint in the upstream layout: where it is, what it is, and whether it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx_audio_turbo.presets as presets
from mlx_audio_turbo.config import ModelConfig, from_json
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.files.paths import user_path
from mlx_audio_turbo.loading import hub
from mlx_audio_turbo.loading.networks import parameter_shapes

from . import published, rules
from .mapping import RULES
from .published import MODELS, VOICE_ENCODER_FILE, PublishedModel
from .safetensors_writer import Reader

AGAIN = "download the checkpoint again"


@dataclass(frozen=True)
class Source:
    """A checkpoint, ready to convert.

    family: which models share voices with it.
    repository, revision: where it was published; None for a folder of unknown origin.
    trained: False for random weights.
    """

    folder: Path
    t3_file: str
    s3gen_file: str
    config: ModelConfig
    variant: str
    model_type: str
    family: str
    repository: str | None = None
    revision: str | None = None
    trained: bool = True

    @property
    def weights(self) -> tuple[Path, ...]:
        """The three files of tensors."""
        names = (self.t3_file, self.s3gen_file, VOICE_ENCODER_FILE)
        return tuple(self.folder / name for name in names)

    def remedy(self, file: str) -> str:
        """How to get the damaged ``file`` again."""
        return hub.remedy(self.folder / file)


def resolve(
    source: str | Path,
    *,
    model: str | None = None,
    revision: str | None = None,
    include_voice: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """The checkpoint in a local folder, or a published model, downloaded and checked.

    Args:
        source: a folder, a variant of ``published.MODELS`` or its repository.
        model: the variant to take where the folder or repository holds several.
        revision: commit of the repository; the files of another than the known one are not checked.
        include_voice: download the built-in voice as well.
        progress: called with the bytes checked so far and in all.

    Raises:
        ModelFolderError: no such checkpoint, or a file of it is absent or not as published.
        DownloadError: the Hub could not be reached.
    """
    folder = user_path(source)
    if folder.is_dir():
        return recognise(folder, model=model)
    known = published.find(str(source))
    chosen = MODELS.get(model or "")
    if known and chosen and chosen.repository == known.repository:
        known = chosen
    if known is None:
        names = ", ".join((*MODELS, *dict.fromkeys(presets.PUBLISHED.values())))
        raise ModelFolderError(
            f"no folder at {source}; give the folder of a checkpoint, or one of {names}"
        )
    files = (*known.files, *([known.voice] if include_voice else []))
    folder = hub.download(
        known.repository, [file.name for file in files], revision=revision or known.revision
    )
    if revision in (None, known.revision):
        published.check_files(
            folder,
            known,
            voice=include_voice,
            remedy=lambda name: hub.remedy(folder / name),
            progress=progress,
        )
    return recognise(folder, model=known.variant)


def recognise(folder: Path, *, model: str | None = None) -> Source:
    """What the checkpoint in a local folder is.

    A ``config.json`` with ``"architecture"`` decides; published files have none and are known by
    the name of their T3 file, whose tensors must be exactly those of that model.

    Args:
        model: the variant to take where the folder holds several.

    Raises:
        ModelFolderError: a file is missing or is not what it should be.
    """
    described = _description(folder)
    found = sorted(path.name for path in folder.glob("t3_*.safetensors"))
    by_file = {each.t3.name: each for each in MODELS.values()}
    if described is None:
        found = [name for name in found if name in by_file]
        chosen = MODELS.get(model or "")
        if len(found) > 1 and chosen and chosen.t3.name in found:
            found = [chosen.t3.name]
    if len(found) != 1:
        names = [by_file[name].variant for name in found if name in by_file]
        if len(names) > 1:
            raise ModelFolderError(
                f"{folder} has several T3 weights ({', '.join(found)}); choose one with --model "
                f"{' or '.join(names)}"
            )
        what = "no T3 weights" if not found else f"several T3 weights ({', '.join(found)})"
        raise ModelFolderError(
            f"{folder} has {what}; give a folder with one of {', '.join(by_file)}"
        )
    if described is not None:
        return _complete(_described(folder, found[0], described))
    known = by_file[found[0]]
    repository, revision = hub.snapshot_of(folder)
    source = Source(
        folder=folder,
        t3_file=known.t3.name,
        s3gen_file=known.s3gen.name,
        config=known.config,
        variant=known.variant,
        model_type=known.model_type,
        family=known.family,
        repository=repository if repository == known.repository else None,
        revision=revision if repository == known.repository else None,
    )
    _complete(source)
    _check_t3(source, known)
    return source


def _described(folder: Path, t3_file: str, values: dict[str, Any]) -> Source:
    """The source that ``config.json`` describes; a name or number that it lacks is Turbo's."""
    variant = str(values.get("variant", t3_file.removesuffix(".safetensors")))
    config = from_json(values, absent=presets.TURBO)
    if "rendering" not in values and "flow_noise_scale" in values:
        scale = float(values["flow_noise_scale"])
        config = replace(config, rendering=replace(config.rendering, noise_scale=scale))
    original = config.t3.kind == presets.ORIGINAL.t3.kind
    default_type = presets.ORIGINAL_TYPE if original else presets.TURBO_TYPE
    default_s3gen = published.ORIGINAL_S3GEN if original else published.TURBO_S3GEN
    return Source(
        folder=folder,
        t3_file=t3_file,
        s3gen_file=default_s3gen,
        config=config,
        variant=variant,
        model_type=str(values.get("model_type", default_type)),
        family=str(values.get("family", variant)),
        trained=values.get("trained") is not False,
    )


def _complete(source: Source) -> Source:
    for path in source.weights:
        if not path.is_file():
            raise ModelFolderError(f"{path} is missing; {hub.remedy(path, otherwise=AGAIN)}")
    return source


def _check_t3(source: Source, model: PublishedModel) -> None:
    """Compare the header of the T3 file with the model that its name promises."""
    path = source.folder / source.t3_file
    tensors = Reader(path, remedy=source.remedy(path.name)).tensors
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wanted = {
        name: shape
        for name, shape in parameter_shapes(source.config).items()
        if name.startswith("t3.")
    }
    try:
        rules.check_shapes(rules.plan(RULES[source.config.t3.kind], shapes), shapes, wanted)
    except ModelFolderError as error:
        fact = str(error).rpartition("; ")[0]
        raise ModelFolderError(
            f"{path} is not {model.repository}: {fact}; {source.remedy(path.name)}"
        ) from None


def _description(folder: Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFolderError(
            f"{path} cannot be read ({error}); make the checkpoint again"
        ) from None
    return values if isinstance(values, dict) and "architecture" in values else None
