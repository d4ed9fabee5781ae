"""What the publisher's repositories hold, and how to get and recognise it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_audio_turbo.config import ModelConfig, from_json
from mlx_audio_turbo.errors import DownloadError, ModelFolderError
from mlx_audio_turbo.files.paths import user_path
from mlx_audio_turbo.loading import hub
from mlx_audio_turbo.presets import NANO, TURBO

from .safetensors_writer import Reader
from .synthetic import shapes
from .tokenizer import LEGACY_FILES

S3GEN_FILE = "s3gen_meanflow.safetensors"
VOICE_ENCODER_FILE = "ve.safetensors"
BUILTIN_VOICE_FILE = "conds.pt"
FAMILY = "chatterbox_turbo"
"""Turbo and Nano share all that hears and speaks, so a voice made for one serves the other."""


@dataclass(frozen=True)
class File:
    """A published file; None where not known."""

    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Repository:
    """A published model.

    revision: the commit to take, or None for the newest.
    """

    variant: str
    name: str
    config: ModelConfig
    t3: File
    revision: str | None = None

    @property
    def files(self) -> tuple[File, ...]:
        return (self.t3, *_SHARED, *map(File, LEGACY_FILES))

    @property
    def voice(self) -> File:
        """The built-in voice, which nobody gets who does not ask for it."""
        return _BUILTIN_VOICE


# Byte for byte the same in both repositories.
_SHARED = (
    File(
        S3GEN_FILE,
        1_064_875_036,
        "d65cb687a2ed581ee6cc297e919ffefa63386944f42364ae13b78a594945514f",
    ),
    File(
        VOICE_ENCODER_FILE,
        5_695_784,
        "f0921cab452fa278bc25cd23ffd59d36f816d7dc5181dd1bef9751a7fb61f63c",
    ),
)

_BUILTIN_VOICE = File(
    BUILTIN_VOICE_FILE,
    169_454,
    "b1852099306fd6a7814eb9d0bd10186caba7249596cc23868f78a0eefbfa5033",
)

REPOSITORIES: Mapping[str, Repository] = {
    repository.name: repository
    for repository in (
        Repository(
            "turbo",
            "ResembleAI/chatterbox-turbo",
            TURBO,
            File(
                "t3_turbo_v1.safetensors",
                1_915_480_052,
                "fcf1f8c1d651bb7e3acd69ee5be269b4ac10c02980b7708213d598bc9f7cdf87",
            ),
        ),
        Repository("nano", "ResembleAI/chatterbox-nano", NANO, File("t3_nano_v1.safetensors")),
    )
}


@dataclass(frozen=True)
class Source:
    """A checkpoint in the upstream layout, ready to convert.

    family: which models share voices with it.
    repository, revision: where it was published; None for a folder of unknown origin.
    trained: False for random weights.
    """

    folder: Path
    t3_file: str
    config: ModelConfig
    variant: str
    family: str = FAMILY
    repository: str | None = None
    revision: str | None = None
    trained: bool = True

    @property
    def weights(self) -> tuple[Path, ...]:
        names = (self.t3_file, S3GEN_FILE, VOICE_ENCODER_FILE)
        return tuple(self.folder / name for name in names)

    def remedy(self, file: str) -> str:
        """How to get the damaged ``file`` again."""
        if self.repository is None:
            return "download it again"
        revision = f" --revision {self.revision}" if self.revision else ""
        return f"fetch it with: hf download {self.repository} {file}{revision} --force-download"


def resolve(
    source: str | Path,
    *,
    revision: str | None = None,
    include_voice: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """The checkpoint in a local folder, or of a Hub repository, downloaded and checked.

    Args:
        include_voice: download the built-in voice as well.
        progress: called with the bytes hashed so far and in all.

    Raises:
        ModelFolderError: no such checkpoint, or a file of it is absent or not as published.
        DownloadError: the Hub could not be reached.
    """
    folder = user_path(source)
    if folder.is_dir():
        return recognise(folder)
    repository = REPOSITORIES.get(str(source))
    if repository is None:
        known = " or ".join(REPOSITORIES)
        raise ModelFolderError(
            f"no folder at {source}; give the folder of a checkpoint, or {known}"
        )
    files = (*repository.files, *([repository.voice] if include_voice else []))
    folder = hub.download(
        repository.name,
        [file.name for file in files],
        revision=revision or repository.revision,
    )
    found = recognise(folder)
    if revision in (None, repository.revision):
        check_files(folder, repository, remedy=found.remedy, progress=progress)
        if include_voice:
            voice = repository.voice
            check_file(folder / voice.name, voice, remedy=found.remedy(voice.name))
    return found


def check_files(
    folder: Path,
    repository: Repository,
    *,
    remedy: Callable[[str], str],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compare a download with the sizes and SHA-256 sums that are known.

    Raises:
        ModelFolderError: a file differs.
    """
    known = [file for file in repository.files if file.sha256]
    total, done = sum(file.size or 0 for file in known), 0

    def count(block: int) -> None:
        nonlocal done
        done += block
        if progress:
            progress(done, total)

    for file in known:
        check_file(folder / file.name, file, remedy=remedy(file.name), progress=count)


def check_file(
    path: Path, file: File, *, remedy: str, progress: Callable[[int], None] | None = None
) -> None:
    """Compare one file with its size and SHA-256 sum, where they are known.

    Args:
        progress: called with the bytes of each block.

    Raises:
        ModelFolderError: it differs.
    """
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        raise ModelFolderError(f"{path} has {size} bytes, not {file.size}; {remedy}")
    if file.sha256 is None:
        return
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
            if progress:
                progress(len(block))
    if digest.hexdigest() != file.sha256:
        raise ModelFolderError(f"{path} is not the published file (SHA-256 differs); {remedy}")


def published(repository: str, name: str) -> File:
    """What is known of the file ``name`` of one of ``REPOSITORIES``."""
    return next(file for file in REPOSITORIES[repository].files if file.name == name)


def find_file(repository: str, name: str, *, network: bool) -> Path | None:
    """One file of any repository, in the Hub's cache; None where it is not to be had.

    Args:
        network: download it where it is not there.

    Raises:
        DownloadError: the Hub does not answer.
    """
    try:
        path = hub.download(repository, [name], network=network) / name
    except DownloadError:
        if network:
            raise
        return None
    return path if path.is_file() else None


def recognise(folder: Path) -> Source:
    """What the checkpoint in a local folder is.

    A ``config.json`` with ``"architecture"`` decides; published files have none and are known by
    the name of their T3 file, whose tensors must be exactly those of that model.

    Raises:
        ModelFolderError: a file is missing or is not what it should be.
    """
    found = sorted(path.name for path in folder.glob("t3_*.safetensors"))
    described = _description(folder)
    known = {repository.t3.name: repository for repository in REPOSITORIES.values()}
    if described is None:
        found = [name for name in found if name in known]
    if len(found) != 1:
        what = "no T3 weights" if not found else f"several T3 weights ({', '.join(found)})"
        raise ModelFolderError(f"{folder} has {what}; give a folder with one of {', '.join(known)}")
    for name in (S3GEN_FILE, VOICE_ENCODER_FILE):
        if not (folder / name).is_file():
            again = hub.remedy(folder / name, otherwise="download the checkpoint again")
            raise ModelFolderError(f"{folder / name} is missing; {again}")
    if described is not None:
        variant = str(described.get("variant", found[0].removesuffix(".safetensors")))
        return Source(
            folder=folder,
            t3_file=found[0],
            config=from_json(described, absent=TURBO),
            variant=variant,
            family=str(described.get("family", variant)),
            trained=described.get("trained") is not False,
        )
    repository = known[found[0]]
    cached = _cached_revision(folder, repository.name)
    source = Source(
        folder=folder,
        t3_file=found[0],
        config=repository.config,
        variant=repository.variant,
        repository=repository.name if cached else None,
        revision=cached,
    )
    tensors = Reader(folder / found[0], remedy=source.remedy(found[0])).tensors
    wanted = shapes.t3(repository.config.t3)
    if {name: tensor.shape for name, tensor in tensors.items()} != {
        name: tensor.shape for name, tensor in wanted.items()
    }:
        odd = min(name for name in {*tensors, *wanted} if tensors.get(name) != wanted.get(name))
        raise ModelFolderError(
            f"{folder / found[0]} is not {repository.name}: {odd!r} differs; "
            f"{source.remedy(found[0])}"
        )
    return source


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


def _cached_revision(folder: Path, repository: str) -> str | None:
    """The commit, where ``folder`` is a snapshot of ``repository`` in the Hub's cache."""
    name, revision = hub.snapshot_of(folder)
    return revision if name == repository else None
