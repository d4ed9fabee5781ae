"""Voices that are kept: a folder of safetensors files, one for each name."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import platformdirs

from .errors import VoiceError
from .voice import Voice

SUFFIX = ".safetensors"
_NAME = re.compile(r"\w[\w.+-]{0,63}")


def voices_folder() -> Path:
    """Where voices are kept: ``MLX_AUDIO_TURBO_VOICES`` or the user's data folder."""
    chosen = os.environ.get("MLX_AUDIO_TURBO_VOICES")
    return (
        Path(chosen) if chosen else Path(platformdirs.user_data_dir("mlx_audio_turbo")) / "voices"
    )


@dataclass(frozen=True)
class SavedVoice:
    """A voice of the library; its arrays are read when they are asked for.

    created: when it was made, ISO 8601 in UTC; empty where not known, like the rest.
    clip: the name of the clip it was made of; clip_sha256: the hash of that file.
    consent: who allowed it and how, in the user's words.
    family: which models can speak with it.
    """

    name: str
    path: Path
    family: str
    created: str = ""
    clip: str = ""
    clip_sha256: str = ""
    consent: str = ""

    @cached_property
    def voice(self) -> Voice:
        """The voice itself.

        Raises:
            VoiceError: the file went or is damaged.
        """
        return Voice.load(self.path)


class VoiceLibrary:
    """The voices in a folder; by default the user's own."""

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self.folder = Path(folder) if folder is not None else voices_folder()

    def names(self) -> list[str]:
        """The names of all voices, sorted; files of other names are not ours."""
        stems = (path.stem for path in self.folder.glob(f"*{SUFFIX}"))
        return sorted(stem for stem in stems if _NAME.fullmatch(stem))

    def list(self) -> list[SavedVoice]:
        """All voices by name.

        Raises:
            VoiceError: a file among them is damaged, or not a voice.
        """
        return [self.get(name) for name in self.names()]

    def get(self, name: str) -> SavedVoice:
        """The voice of this name.

        Raises:
            VoiceError: there is none, or its file is damaged.
        """
        path = self._path(name)
        if not path.is_file():
            raise VoiceError(self._unknown(name))
        return _saved(name, path)

    def add(
        self,
        name: str,
        voice: Voice,
        *,
        clip: str | os.PathLike[str] | None = None,
        consent: str = "",
        replace: bool = False,
    ) -> SavedVoice:
        """Keep a voice.

        Args:
            clip: the file it was made of; its name and hash are noted.
            consent: who allowed it and how.
            replace: take the place of a voice of the same name.

        Raises:
            VoiceError: a name that is taken or impossible, or the folder cannot be written.
        """
        notes = {"created": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        if clip is not None:
            notes |= {"clip": Path(clip).name, "clip_sha256": _sha256(Path(clip))}
        return self._write(name, voice, notes | {"consent": consent}, replace=replace)

    def remove(self, name: str) -> None:
        """Delete a voice.

        Raises:
            VoiceError: there is none, or it cannot be deleted.
        """
        path = self._path(name)
        try:
            path.unlink()
        except FileNotFoundError:
            raise VoiceError(self._unknown(name)) from None
        except OSError as error:
            raise VoiceError(f"cannot delete {path} ({error.strerror})") from None

    def export(self, name: str, path: str | os.PathLike[str]) -> Path:
        """Copy a voice with its notes to a file, or into a folder; gives the path.

        Raises:
            VoiceError: there is no such voice, or the place cannot be written.
        """
        saved, path = self.get(name), Path(path)
        if path.is_dir():
            path = path / f"{name}{SUFFIX}"
        return saved.voice.save(path, metadata=Voice.read_metadata(saved.path))

    def import_file(
        self, path: str | os.PathLike[str], *, name: str | None = None, replace: bool = False
    ) -> SavedVoice:
        """Take a voice from a file, with its notes; by default under the name of the file.

        Raises:
            VoiceError: not a voice; or as for :meth:`add`.
        """
        path = Path(path)
        voice, notes = Voice.load(path), Voice.read_metadata(path)
        return self._write(name or path.stem, voice, notes, replace=replace)

    def _write(
        self, name: str, voice: Voice, notes: Mapping[str, str], *, replace: bool
    ) -> SavedVoice:
        path = self.check_free(name, replace=replace)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VoiceError(
                f"cannot make the folder {self.folder} ({error.strerror}); "
                "set MLX_AUDIO_TURBO_VOICES to another"
            ) from None
        return _saved(name, voice.save(path, metadata=notes))

    def check_free(self, name: str, *, replace: bool = False) -> Path:
        """Find out before long work whether a voice could be kept so; gives the path.

        Raises:
            VoiceError: a name that is taken or impossible.
        """
        path = self._path(name)
        if path.exists() and not replace:
            raise VoiceError(
                f"there is a voice {name!r} already; choose another name or replace it"
            )
        return path

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise VoiceError(
                f"{name!r} is no name for a voice; use up to 64 letters, digits, and . _ + -"
            )
        return self.folder / f"{name}{SUFFIX}"

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`mlx_audio_turbo.voices list` shows all"
        return f"there is no voice {name!r}; {hint}"


def find(name: str, *, library: VoiceLibrary | None = None) -> SavedVoice:
    """A voice by its name in the library, or by the path of its file.

    Raises:
        VoiceError: neither, or its file is damaged.
    """
    path = Path(name).expanduser()
    if path.suffix == SUFFIX or len(path.parts) > 1:
        return _saved(path.stem, path)
    return (library or VoiceLibrary()).get(name)


def _saved(name: str, path: Path) -> SavedVoice:
    notes = Voice.read_metadata(path)
    kept = {key: notes.get(key, "") for key in ("created", "clip", "clip_sha256", "consent")}
    return SavedVoice(name=name, path=path, family=notes.get("family", ""), **kept)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise VoiceError(f"cannot read {path} ({error.strerror})") from None
    return digest.hexdigest()
