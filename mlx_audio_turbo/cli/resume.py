"""Finished segments of a long text, beside the output, so that no work is lost.

``book.wav.part/`` holds ``manifest.json`` with what is spoken and how, and for each finished
segment ``00000.flac`` and ``00000.json``. At the end they are joined and the folder goes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.files import write_audio
from ..errors import OptionError
from ..files.atomic import replacing
from ..speech import Speech

_MANIFEST = "manifest.json"
_VERSION = 1
_BLOCK = 65_536


@dataclass(frozen=True)
class Finished:
    """What is kept of a segment besides its audio."""

    text: str
    samples: int
    tokens: list[int]
    seconds: Mapping[str, float]
    notes: list[str]


class Journal:
    """The folder of one output; see :meth:`open`.

    identity: what makes the same audio: text, options, voice, model, seed.
    finished: the segments that are done, from the first on.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], finished: list[Finished]):
        self.folder, self.identity, self.finished = folder, identity, finished

    @staticmethod
    def place(output: Path) -> Path:
        """The folder that belongs to ``output``."""
        return output.with_name(f"{output.name}.part")

    @staticmethod
    def seed(output: Path) -> int | None:
        """The seed of the unfinished work at ``output``, if there is any."""
        manifest = _read(Journal.place(output) / _MANIFEST)
        seed = manifest.get("seed") if manifest else None
        return seed if isinstance(seed, int) else None

    @staticmethod
    def check(output: Path, *, resume: bool, restart: bool) -> None:
        """Find out before long work whether :meth:`open` would want a decision.

        Raises:
            OptionError: earlier work is there and neither says what to do with it.
        """
        folder = Journal.place(output)
        if resume or restart or _read(folder / _MANIFEST) is None:
            return
        if count := len(list(_finished(folder))):
            raise OptionError(
                f"{folder} holds {count} finished segments of an interrupted run; "
                "--resume goes on with it, --restart begins anew"
            )

    @classmethod
    def open(
        cls, output: Path, identity: Mapping[str, Any], *, resume: bool, restart: bool
    ) -> Journal:
        """Go on where earlier work for ``output`` stopped, or begin.

        Raises:
            OptionError: earlier work is there and neither ``resume`` nor ``restart`` says what to
                do with it, or it cannot be gone on with because it is of something else.
        """
        folder = cls.place(output)
        identity = {"version": _VERSION, **identity}
        manifest = _read(folder / _MANIFEST)
        if manifest is not None and not restart:
            cls.check(output, resume=resume, restart=restart)
            finished = list(_finished(folder))
            differing = [key for key in identity if manifest.get(key) != identity[key]]
            if finished and differing:
                raise OptionError(
                    f"{folder} cannot be gone on with: another {', '.join(differing)}; "
                    "--restart begins anew"
                )
            if finished:
                return cls(folder, identity, finished)
        if folder.exists():
            if manifest is None and any(folder.iterdir()):
                raise OptionError(f"{folder} is in the way and not ours; remove it")
            shutil.rmtree(folder)
        folder.mkdir()
        with replacing(folder / _MANIFEST) as part:
            part.write_text(json.dumps(identity, indent=2) + "\n", "utf-8")
        return cls(folder, identity, [])

    def add(self, speech: Speech) -> None:
        """Keep the next segment. Its audio comes last: what has audio is finished."""
        name = f"{len(self.finished):05d}"
        finished = Finished(
            text=speech.text,
            samples=len(speech.audio),
            tokens=speech.tokens.tolist(),
            seconds=dict(speech.seconds),
            notes=list(speech.notes),
        )
        with replacing(self.folder / f"{name}.json") as part:
            part.write_text(json.dumps(vars(finished)), "utf-8")
        write_audio(self.folder / f"{name}.flac", speech.audio, speech.sample_rate)
        self.finished.append(finished)

    def audio(self) -> Iterator[np.ndarray]:
        """All that is finished, block by block (samples,) float32."""
        import soundfile

        for index in range(len(self.finished)):
            with soundfile.SoundFile(self.folder / f"{index:05d}.flac") as file:
                yield from file.blocks(_BLOCK, dtype="float32")

    def parts(self, seconds: float) -> list[Speech]:
        """The first segments, until they make up so many seconds."""
        import soundfile

        parts: list[Speech] = []
        for index, finished in enumerate(self.finished):
            if sum(part.duration for part in parts) >= seconds:
                break
            audio, rate = soundfile.read(self.folder / f"{index:05d}.flac", dtype="float32")
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
        """The work is done, or there is none."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def _finished(folder: Path) -> Iterator[Finished]:
    """Segments from the first to the last before one that is not there whole."""
    import soundfile

    index = 0
    while values := _read(folder / f"{index:05d}.json"):
        try:
            info = soundfile.info(folder / f"{index:05d}.flac")
            finished = Finished(**values)
        except (soundfile.SoundFileError, OSError, TypeError):
            return
        if info.frames != finished.samples:
            return
        yield finished
        index += 1
