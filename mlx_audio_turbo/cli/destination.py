"""Where the audio goes: a file, a stream, or nowhere but the sound card."""

from __future__ import annotations

import itertools
import os
import secrets
import stat
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..audio.files import FORMATS, check_writable, to_int16, write_blocks, writing
from ..config import SAMPLE_RATE
from ..errors import AudioError, OptionError
from ..files.atomic import check_place, is_stream
from ..files.paths import same_file, short_name, user_path
from .resume import Journal

_STREAMED = ("wav", "pcm")
_OPENED = ("/dev/fd", "/proc/self/fd")
"""Folders whose files are what this process has open."""
_STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


@dataclass(frozen=True)
class Destination:
    """A file, pipe or device at ``path``, or standard output; neither: nowhere.

    stream: ``path`` is a pipe or a device, which is written to as the audio comes.
    """

    path: Path | None = None
    stdout: bool = False
    stream: bool = False
    format: str = "wav"

    @property
    def file(self) -> Path | None:
        """The path where it is a file, which is written whole."""
        return None if self.stream else self.path


def find_destination(
    output: str | None,
    *,
    format: str | None,
    play: bool,
    stem: str,
    resume: bool,
    default: str = "speech",
) -> Destination:
    """What ``--output`` and ``--format`` mean.

    Args:
        stem: the name of a file in a folder that was given; one that is taken gets a number.
        default: the name where no output is given.

    Raises:
        OptionError: the two contradict each other.
        AudioError: nothing can be written there.
    """
    if output is None and play and format is None:
        return Destination()
    if output == "":
        raise OptionError("the name of the output is empty; give a file, a folder or -")
    path = user_path(output or f"{default}.{format or 'wav'}")
    if output == "-" or _is_standard_output(path):
        if format not in (None, *_STREAMED):
            raise OptionError(f"standard output takes wav or pcm, not {format}")
        if sys.stdout.isatty():
            raise OptionError("standard output is a terminal; pipe it on, or give a file")
        return Destination(stdout=True, format=format or "wav")
    with writing(path):
        folder = path.is_dir() or str(output).endswith("/")
        opened = os.path.dirname(os.path.abspath(path)) in _OPENED and path.exists()
        stream = is_stream(path) or (opened and not folder)
        special = stream or (path.exists() and not (path.is_file() or folder))
        if special:
            check_place(path)
    if folder:
        path = _free(path, stem, format or "wav", resume=resume)
    elif not path.suffix and not special:
        path = path.with_name(f"{path.name}.{format or 'wav'}")
    suffix = path.suffix.lower().lstrip(".")
    if format is not None and suffix in FORMATS and suffix != format:
        raise OptionError(f"{path} is no name for --format {format}; leave one of the two out")
    if stream:
        known = suffix if suffix in FORMATS else "wav"
        return Destination(path=path, stream=True, format=format or known)
    check_writable(path)
    return Destination(path=path, format=suffix)


def check_apart(inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> None:
    """Refuse an output that is an input too, or another output, however the paths are spelled.

    Raises:
        OptionError: with the names of the two, as the keys give them.
    """
    written: list[tuple[str, Path]] = []
    for name, path in outputs.items():
        for other, given in inputs.items():
            if same_file(path, given):
                raise OptionError(
                    f"{name} would replace {given}, {other}; give another place to write to"
                )
        for other, given in written:
            if same_file(path, given) and not is_stream(path):
                raise OptionError(f"{name} and {other} are the same file, {path}; give two")
        written.append((name, path))


def deliver(
    audio: Iterator[np.ndarray],
    destination: Destination,
    *,
    play: Callable[[np.ndarray], None] | None = None,
) -> None:
    """Write the audio where it belongs, block by block, and ``play`` each block.

    Raises:
        AudioError: it cannot be written.
    """
    if play is not None:
        audio = _played(audio, play)
    if destination.stdout:
        write_stream(audio, destination.format, sys.stdout.buffer)
    elif destination.path is None:
        for _ in audio:
            pass
    elif destination.stream:
        write_to_device(destination.path, audio, destination.format)
    else:
        # The first block comes before the file, which an error until then need not remove.
        first = next(audio, np.zeros(0, np.float32))
        write_file(destination.path, itertools.chain([first], audio))


def _played(
    audio: Iterator[np.ndarray], play: Callable[[np.ndarray], None]
) -> Iterator[np.ndarray]:
    for block in audio:
        play(block)
        yield block


def write_file(path: Path, blocks: Iterable[np.ndarray]) -> None:
    """Write the audio to ``path``; where that has become impossible, to a place that works.

    Raises:
        AudioError: nothing is at ``path``; the message says where the audio is.
    """
    try:
        check_writable(path)
    except AudioError as error:
        kept = _elsewhere(path)
        write_blocks(kept, blocks, SAMPLE_RATE)
        raise AudioError(f"{error}; the audio is in {kept}") from None
    write_blocks(path, blocks, SAMPLE_RATE)


def write_stream(blocks: Iterable[np.ndarray], format: str, out: BinaryIO) -> None:
    """16-bit mono at 24 kHz, each block as it comes; a wav says that its length is not known."""
    if format == "wav":
        out.write(_wav_header())
        out.flush()
    for block in blocks:
        out.write(to_int16(block).astype("<i2").tobytes())
        out.flush()


def write_to_device(path: Path, blocks: Iterable[np.ndarray], format: str) -> None:
    """Write to the pipe or device ``path``: wav and pcm as they come, other formats at the end."""
    if format in _STREAMED:
        with open(path, "wb") as out:
            write_stream(blocks, format, out)
        return
    with tempfile.TemporaryDirectory() as folder, open(path, "wb") as out:
        encoded = write_blocks(Path(folder) / f"speech.{format}", blocks, SAMPLE_RATE)
        out.write(encoded.read_bytes())


def _is_standard_output(path: Path) -> bool:
    if os.path.abspath(path) in _STANDARD_OUTPUT:
        return True
    with suppress(OSError, ValueError):
        status = os.stat(path)
        return stat.S_ISFIFO(status.st_mode) and os.path.samestat(status, os.fstat(1))
    return False


def _free(folder: Path, stem: str, suffix: str, *, resume: bool) -> Path:
    number = 1
    while True:
        ending = f".{suffix}" if number == 1 else f"-{number}.{suffix}"
        path = folder / short_name(stem, ending, folder)
        unfinished = Journal.place(path).exists()
        if unfinished if resume else not (path.exists() or unfinished):
            return path
        if resume and not path.exists():
            return path
        number += 1


def _elsewhere(path: Path) -> Path:
    """A new file of the same kind beside ``path``, here, or in the folder for temporary files."""
    name = f"speech-{secrets.token_hex(4)}{path.suffix}"
    for folder in (path.parent, Path.cwd()):
        with suppress(OSError):
            check_place(folder / name)
            return folder / name
    return Path(tempfile.gettempdir()) / name


def _wav_header() -> bytes:
    unknown = 0xFFFF_FFFF
    form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    head = b"RIFF" + struct.pack("<I", unknown) + b"WAVE"
    fmt = b"fmt " + struct.pack("<I", len(form)) + form
    return head + fmt + b"data" + struct.pack("<I", unknown - len(head) - len(fmt))
