"""Saved voices: a folder of safetensors files, one for each name."""

from __future__ import annotations

import difflib
import hashlib
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

import platformdirs

from .errors import VoiceError
from .files.paths import own_folder, same_file, user_path
from .voice import Voice

SUFFIX = ".safetensors"
MAX_NAME = 64
"""Letters, and bytes with the suffix at most those of a file's name."""
_MAX_BYTES = 255 - len(SUFFIX)
_MARKS = "_.+-"
_JOINERS = "\u200c\u200d"
"""Persian and the scripts of India need them within words."""


def voices_folder() -> Path:
    """The folder of saved voices: ``MLX_AUDIO_TURBO_VOICES`` or the user's data folder.

    Raises:
        OptionError: the variable is not set and this user has no home folder.
    """
    return own_folder(
        "MLX_AUDIO_TURBO_VOICES",
        lambda: os.path.join(platformdirs.user_data_dir("mlx_audio_turbo"), "voices"),
    )


@dataclass(frozen=True)
class SavedVoice:
    """A voice of the library; its arrays are read on first use.

    created: the date, ISO 8601 in UTC. It and the following are empty where not known.
    clip: the name of the clip; clip_sha256: the hash of that file.
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
            VoiceError: the file is absent or damaged.
        """
        return Voice.load(self.path)


class VoiceLibrary:
    """The voices in a folder, by default the user's own."""

    def __init__(self, folder: str | os.PathLike[str] | None = None):
        self.folder = user_path(folder) if folder is not None else voices_folder()

    def names(self) -> list[str]:
        """The names of all voices, sorted; other files are ignored."""
        return sorted({name for name, _ in self._files()})

    def _files(self) -> Iterator[tuple[str, Path]]:
        for path in self.folder.glob(f"*{SUFFIX}"):
            name = _normal(path.stem)
            if _is_name(name):
                yield name, path

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
        return _saved(_normal(name), path)

    def add(
        self,
        name: str,
        voice: Voice,
        *,
        clip: str | os.PathLike[str] | None = None,
        consent: str = "",
        replace: bool = False,
    ) -> SavedVoice:
        """Save a voice.

        Args:
            clip: the file it was made from; its name and hash are saved.
            consent: who allowed the use of the voice, and how.
            replace: replace a voice of the same name.

        Raises:
            VoiceError: a name that is taken or impossible, or the folder cannot be written.
        """
        notes = {"created": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        if clip is not None:
            path = user_path(clip)
            notes |= {"clip": path.name, "clip_sha256": _sha256(path)}
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
        saved, path = self.get(name), user_path(path)
        if path.is_dir():
            path = path / f"{saved.name}{SUFFIX}"
        if same_file(saved.path, path):
            raise VoiceError(f"{path} is the file of the voice itself; export it to another place")
        return saved.voice.save(path, metadata=Voice.read_metadata(saved.path))

    def import_file(
        self, path: str | os.PathLike[str], *, name: str | None = None, replace: bool = False
    ) -> SavedVoice:
        """Save a voice from a file, with its notes; by default under the name of the file.

        Raises:
            VoiceError: not a voice; or as for :meth:`add`.
        """
        path = voice_file(user_path(path))
        name = path.stem if name is None else name
        if same_file(path, self._path(name)):
            raise VoiceError(f"{path} is in the library already, as the voice {_normal(name)!r}")
        voice, notes = Voice.load(path), Voice.read_metadata(path)
        return self._write(name, voice, notes, replace=replace)

    def _write(
        self, name: str, voice: Voice, notes: Mapping[str, str], *, replace: bool
    ) -> SavedVoice:
        path = self.check_free(name, replace=replace)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._closed(error.strerror) from None
        return _saved(_normal(name), voice.save(path, metadata=notes))

    def check_free(self, name: str, *, replace: bool = False) -> Path:
        """Check before long work that a voice can be saved under this name; returns the path.

        Raises:
            VoiceError: a name that is taken or impossible, or a folder that cannot be written.
        """
        path = self._path(name)
        if path.exists() and not replace:
            raise VoiceError(
                f"there is a voice {name!r} already; choose another name or replace it"
            )
        if self.folder.is_dir():
            return Voice.check_place(path)
        # The folder is made with the first voice; until then the one that will hold it is asked.
        above = next(folder for folder in self.folder.absolute().parents if folder.exists())
        if not above.is_dir():
            raise self._closed(f"{above} is a file")
        if self.folder.exists() or not os.access(above, os.W_OK | os.X_OK):
            raise self._closed(f"nothing can be written in {above}")
        return path

    def _closed(self, reason: str | None) -> VoiceError:
        return VoiceError(
            f"cannot make the folder {self.folder} ({reason}); "
            "set MLX_AUDIO_TURBO_VOICES to another"
        )

    def _path(self, name: str) -> Path:
        """The file of the voice ``name``, which need not exist; a Mac writes é as e and accent."""
        name = _normal(name)
        if not _is_name(name):
            raise VoiceError(
                f"{name!r} is no name for a voice; use up to {MAX_NAME} letters, digits, "
                "and . _ + -"
            )
        path = self.folder / f"{name}{SUFFIX}"
        if path.exists():
            return path
        return next((file for other, file in self._files() if other == name), path)

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`mlx_audio_turbo.voices list` shows all"
        return f"there is no voice {name!r}; {hint}"


def find(name: str, *, library: VoiceLibrary | None = None) -> SavedVoice:
    """A voice by its name in the library, or by the path of its file.

    A path has a ``/`` in it or ends in ``.safetensors``; that suffix may be left out. A name that
    the library does not have may also be a file of the current folder.

    Raises:
        VoiceError: neither, or its file is damaged.
        OptionError: a path that cannot be used, or no folder for the library.
    """
    path = user_path(name)
    if path.suffix == SUFFIX or os.sep in str(path) or os.sep in name:
        path = voice_file(path)
        return _saved(path.stem, path)
    library = library or VoiceLibrary()
    path = voice_file(path)
    if path.is_file() and _normal(name) not in library.names():
        return _saved(path.stem, path)
    return library.get(name)


def voice_file(path: Path) -> Path:
    """``path``, or the file of that name with the suffix of voices where only that exists."""
    suffixed = path.with_name(f"{path.name}{SUFFIX}") if path.name else path
    return suffixed if suffixed.is_file() and not path.is_file() else path


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_name(name: str) -> bool:
    if not 0 < len(name) <= MAX_NAME or not (name[0].isalnum() or name[0] == "_"):
        return False
    if any(0xD800 <= ord(letter) < 0xE000 for letter in name):
        return False
    if len(name.encode()) > _MAX_BYTES:
        return False
    return all(
        letter.isalnum() or letter in _MARKS + _JOINERS or unicodedata.category(letter)[0] == "M"
        for letter in name
    )


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
