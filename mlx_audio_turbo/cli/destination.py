"""Where the audio goes: a file, standard output, or nowhere but the sound card."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..audio.files import FORMATS, check_writable, to_int16
from ..config import SAMPLE_RATE
from ..errors import OptionError
from .resume import Journal

_STREAMED = ("wav", "pcm")


@dataclass(frozen=True)
class Place:
    """A file at ``path``, or standard output, in ``format``; neither: nowhere."""

    path: Path | None = None
    stdout: bool = False
    format: str = "wav"


def find_place(
    output: str | None, *, format: str | None, play: bool, stem: str, resume: bool
) -> Place:
    """What ``--output`` and ``--format`` mean.

    Args:
        stem: the name of a file in a folder that was given; one that is taken gets a number.

    Raises:
        OptionError: the two contradict each other.
        AudioError: nothing can be written there.
    """
    if output is None and play and format is None:
        return Place()
    if output == "-":
        if format not in (None, *_STREAMED):
            raise OptionError(f"standard output takes wav or pcm, not {format}")
        if sys.stdout.isatty():
            raise OptionError("standard output is a terminal; pipe it on, or give a file")
        return Place(stdout=True, format=format or "wav")
    if output == "":
        raise OptionError("the name of the output is empty; give a file, a folder or -")
    path = Path(output or f"speech.{format or 'wav'}").expanduser()
    if path.is_dir() or str(output).endswith("/"):
        path = _free(path, stem, format or "wav", resume=resume)
    elif not path.suffix:
        path = path.with_name(f"{path.name}.{format or 'wav'}")
    suffix = path.suffix.lower().lstrip(".")
    if format is not None and suffix in FORMATS and suffix != format:
        raise OptionError(f"{path} is no name for --format {format}; leave one of the two out")
    check_writable(path)
    return Place(path=path, format=suffix)


def _free(folder: Path, stem: str, suffix: str, *, resume: bool) -> Path:
    number = 1
    while True:
        path = folder / (f"{stem}.{suffix}" if number == 1 else f"{stem}-{number}.{suffix}")
        unfinished = Journal.place(path).exists()
        if unfinished if resume else not (path.exists() or unfinished):
            return path
        if resume and not path.exists():
            return path
        number += 1


def write_stdout(blocks: Iterable[np.ndarray], format: str, out: BinaryIO) -> None:
    """16-bit mono at 24 kHz, each block as it comes; a wav says that its length is not known."""
    if format == "wav":
        out.write(_wav_header())
        out.flush()
    for block in blocks:
        out.write(to_int16(block).astype("<i2").tobytes())
        out.flush()


def _wav_header() -> bytes:
    unknown = 0xFFFF_FFFF
    form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    head = b"RIFF" + struct.pack("<I", unknown) + b"WAVE"
    fmt = b"fmt " + struct.pack("<I", len(form)) + form
    return head + fmt + b"data" + struct.pack("<I", unknown - len(head) - len(fmt))
