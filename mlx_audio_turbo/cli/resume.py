"""Finished segments of a long text, beside the output, so that no work is lost.

``book.wav.part/`` holds ``manifest.json`` with what is spoken and how, ``lock`` while a run is at
work, and for each finished segment ``00000.flac`` and ``00000.json``. At the end the segments are
joined and the folder goes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.files import write_audio
from ..errors import AudioError, OptionError
from ..files.atomic import flush, replacing
from ..files.lock import Lock, Taken
from ..files.paths import short_name
from ..speech import Speech

_MANIFEST = "manifest.json"
_LOCK = "lock"
_OURS = re.compile(rf"\d{{5,}}\.(flac|json)|\.[0-9a-f]{{12}}\.\w+|{_MANIFEST}|{_LOCK}")
_VERSION = 2
_BLOCK = 65_536


@dataclass(frozen=True)
class Finished:
    """What is kept of a segment besides its audio; sha256: of the file that holds the audio."""

    text: str
    samples: int
    tokens: list[int]
    seconds: Mapping[str, float]
    notes: list[str]
    sha256: str


@dataclass(eq=False)
class Journal:
    """The folder of one output, which one run has for itself; see :meth:`claim`.

    identity: what makes the same audio: text, options, voice, model, seed.
    finished: the segments that are whole, by index.
    damaged: how many were kept and are not whole any more.
    """

    folder: Path
    lock: Lock
    identity: dict[str, Any] = field(default_factory=dict)
    finished: dict[int, Finished] = field(default_factory=dict)
    damaged: int = 0

    @staticmethod
    def place(output: Path) -> Path:
        """The folder that belongs to ``output``; the same one for all links to a file."""
        output = Path(os.path.realpath(output))
        name = short_name(output.name, ".part", output.parent)
        if name != f"{output.name}.part":
            digest = hashlib.sha256(os.fsencode(output.name)).hexdigest()[:8]
            name = short_name(output.name, f"-{digest}.part", output.parent)
        return output.with_name(name)

    @staticmethod
    def seed(output: Path) -> int | None:
        """The seed of the unfinished work at ``output``, if there is any."""
        manifest = _read(Journal.place(output) / _MANIFEST)
        seed = manifest.get("seed") if manifest else None
        return seed if isinstance(seed, int) else None

    @classmethod
    def claim(cls, output: Path, *, resume: bool, restart: bool) -> Journal:
        """Take the folder of ``output`` for this run, before long work.

        Raises:
            OptionError: another run is at work there, the folder holds something else, or earlier
                work is there and neither ``resume`` nor ``restart`` says what to do with it.
            AudioError: the folder cannot be made.
        """
        folder = cls.place(output)
        try:
            journal = cls(folder, _locked(folder))
        except Taken as taken:
            raise OptionError(
                f"another run ({taken}) is at work for {output}; wait for it, or give another "
                "--output"
            ) from None
        except OSError as error:
            raise AudioError(
                f"{folder} cannot be written ({error.strerror}); choose another place"
            ) from None
        manifest = _read(folder / _MANIFEST)
        if manifest is not None and not restart:
            journal.identity = manifest
            journal.finished, journal.damaged = _finished(folder)
            if journal.finished and not resume:
                journal.lock.release()
                raise OptionError(
                    f"{folder} holds {len(journal.finished)} finished segments of an interrupted "
                    "run; --resume continues it, --restart begins again"
                )
        return journal

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Continue earlier work of the same ``identity``, or begin.

        Raises:
            OptionError: the earlier work is of something else.
        """
        identity = {"version": _VERSION, **identity}
        if self.finished:
            differing = [key for key in identity if self.identity.get(key) != identity[key]]
            if differing:
                raise OptionError(
                    f"{self.folder} is the work of a run with another {', '.join(differing)}; give "
                    "the same, or --restart begins again"
                )
            return
        self.identity = identity
        for path in self._files():
            if path.name != _LOCK:
                path.unlink()
        with replacing(self.folder / _MANIFEST, durable=True) as part:
            part.write_text(json.dumps(identity, indent=2) + "\n", "utf-8")

    def missing(self, segments: int) -> Iterator[range]:
        """The runs of segments that are not finished, of so many in all."""
        start = 0
        for index in [*sorted(self.finished), segments]:
            if index > start:
                yield range(start, index)
            start = index + 1

    def add(self, index: int, speech: Speech) -> None:
        """Keep a segment. It counts when its notes are there, which are written last."""
        audio = self.folder / f"{index:05d}.flac"
        write_audio(audio, speech.audio, speech.sample_rate)
        flush(audio)
        finished = Finished(
            text=speech.text,
            samples=len(speech.audio),
            tokens=speech.tokens.tolist(),
            seconds=dict(speech.seconds),
            notes=list(speech.notes),
            sha256=_sha256(audio),
        )
        with replacing(self.folder / f"{index:05d}.json", durable=True) as part:
            part.write_text(json.dumps(asdict(finished)), "utf-8")
        self.finished[index] = finished

    def audio(self) -> Iterator[np.ndarray]:
        """All segments in their order, block by block (samples,) float32.

        Raises:
            AudioError: a segment cannot be read.
        """
        import soundfile

        for index in sorted(self.finished):
            path = self.folder / f"{index:05d}.flac"
            try:
                with open(path, "rb") as raw, soundfile.SoundFile(raw.fileno(), closefd=False) as f:
                    yield from f.blocks(_BLOCK, dtype="float32")
            except (soundfile.SoundFileError, OSError) as error:
                raise AudioError(
                    f"{path} cannot be read ({error}); --resume speaks this segment again"
                ) from error

    def parts(self, seconds: float) -> list[Speech]:
        """The first segments, until they make up so many seconds."""
        import soundfile

        parts: list[Speech] = []
        for index, finished in sorted(self.finished.items()):
            if sum(part.duration for part in parts) >= seconds:
                break
            with open(self.folder / f"{index:05d}.flac", "rb") as raw:
                audio, rate = soundfile.read(raw, dtype="float32")
            parts.append(
                Speech(
                    audio=audio,
                    text=finished.text,
                    tokens=np.array(finished.tokens, np.int32),
                    seed=self.identity["seed"],
                    sample_rate=rate,
                )
            )
        return parts

    def remove(self) -> None:
        """The work is done, or there is none; what is not ours in the folder stays."""
        with suppress(OSError):
            for path in self._files():
                if path.name != _LOCK:
                    path.unlink()
            self.lock.release()
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return [path for path in self.folder.iterdir() if _OURS.fullmatch(path.name)]


def _locked(folder: Path) -> Lock:
    """The lock in ``folder``, which is made where it is not there yet.

    Raises:
        Taken: another run has it.
        OptionError: the folder is not ours.
        OSError: it cannot be made.
    """
    while True:
        with suppress(FileExistsError):
            folder.mkdir()
        try:
            names = [path.name for path in folder.iterdir()]
            if _MANIFEST not in names and not all(map(_OURS.fullmatch, names)):
                raise OptionError(f"{folder} holds files of another program; move it away")
            return Lock(folder / _LOCK)
        except FileNotFoundError:
            continue  # a run that ended has just removed the folder


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _finished(folder: Path) -> tuple[dict[int, Finished], int]:
    """The segments that are whole, by index, and how many are not any more."""
    finished: dict[int, Finished] = {}
    damaged = 0
    for notes in sorted(folder.glob("*.json")):
        if not notes.stem.isdecimal():
            continue
        try:
            each = Finished(**(_read(notes) or {}))
            if each.sha256 == _sha256(notes.with_suffix(".flac")):
                finished[int(notes.stem)] = each
                continue
        except (OSError, TypeError):
            pass
        damaged += 1
    return finished, damaged


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
