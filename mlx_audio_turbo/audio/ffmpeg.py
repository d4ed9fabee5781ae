"""What libsndfile cannot decode (AAC and its like), through the command ffmpeg where there is one.

Samples come through a pipe: nothing lies on the disk, an hour needs no memory, and ffmpeg ends
when its reader does, however that ends.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import AudioError

_MARKS = (b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75", b"ID3", b"#!AMR")
_HEADER = struct.Struct(">4sIIIII")  # of an AU file, which unlike WAV may be of unknown length

_log = logging.getLogger(__name__)


def may_decode(path: Path) -> bool:
    """By what stands in the file rather than its name: MP4, ADTS, Matroska, ASF, AMR.

    ffmpeg gets nothing else: it would follow a playlist, for one, to other files and servers.
    """
    with open(path, "rb") as file:
        head = file.read(12)
    adts = len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0
    return head[4:8] == b"ftyp" or adts or head.startswith(_MARKS)


def blocks(path: Path, *options: str) -> Iterator[tuple[int, np.ndarray]]:
    """The sample rate with each 10 s of samples (N, C) float32, C channels.

    Args:
        options: of ffmpeg's output, such as where it begins.

    Raises:
        AudioError: there is no ffmpeg, or it finds no sound in the file. Damage that leaves some
            is logged.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        wav = shlex.quote(f"{path.stem}.wav")
        raise AudioError(
            f"{path} needs a decoder for {path.suffix.lower() or 'its format'}: install ffmpeg, or "
            f"convert it elsewhere to wav (with ffmpeg: ffmpeg -i {shlex.quote(path.name)} {wav})"
        )
    command = [ffmpeg, "-nostdin", "-v", "error", "-i", str(path.absolute()), "-vn", *options]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*command, "-c:a", "pcm_s16be", "-f", "au", "pipe:1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        assert process.stdout is not None
        try:
            found = False
            for rate, block in _decoded(process.stdout):
                found = True
                yield rate, block
            code = process.wait()
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        said.seek(0)
        complaint = _complaint(said.read(10_000).decode("utf-8", "replace"), path)
    if not found and (code or complaint):
        raise AudioError(
            f"{path} cannot be read as audio ({complaint or 'ffmpeg failed'}); export it again, or "
            "give a wav, flac, mp3 or ogg file"
        )
    if complaint:
        _log.warning(
            "%s is damaged (%s); what can be read of it is taken: export it again", path, complaint
        )


def _decoded(pipe: IO[bytes]) -> Iterator[tuple[int, np.ndarray]]:
    head = pipe.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return
    _, offset, _, _, rate, channels = _HEADER.unpack(head)
    pipe.read(offset - _HEADER.size)
    # A forged rate asks for no more memory than the highest that is taken.
    while content := pipe.read(10 * min(rate, 192_000) * channels * 2):
        whole = len(content) // (2 * channels) * 2 * channels
        samples = np.frombuffer(content[:whole], ">i2").reshape(-1, channels)
        yield rate, samples.astype(np.float32) / 32_768


def _complaint(said: str, path: Path) -> str:
    """The first of ffmpeg's lines, which names the cause, without who says it of what."""
    if "does not contain any stream" in said:
        return "there is no sound in it"
    line = next(iter(said.strip().splitlines()), "")
    return re.sub(r"^\[[^]]*\] ", "", line).removeprefix(f"{path.absolute()}: ").rstrip(".")
