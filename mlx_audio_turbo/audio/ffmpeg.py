"""Decoding by the command ffmpeg, where PyAV is not installed.

Samples come through a pipe: nothing is written to the disk, memory is bounded, and ffmpeg ends when
its reader does, however that ends.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import AudioError

FORMATS = (
    "aac,ac3,adts,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,dv,eac3,flac,flv,iff,loas,"
    "matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,mxf,nut,ogg,oma,qcp,rm,shn,tak,truehd,tta,voc,w64,"
    "wav,webm,wtv,wv"
)
"""What FFmpeg may read: recordings, and nothing that leads to other files and servers."""
FOLDERS = ("/opt/homebrew/bin", "/usr/local/bin")
"""Where ffmpeg may be although PATH lacks them, as in what a Mac's Finder or launchd starts."""
_INSTALL = "brew install ffmpeg" if sys.platform == "darwin" else "sudo apt install ffmpeg"
_HEADER = struct.Struct(">4sIIIII")  # of an AU file, which unlike WAV may be of unknown length

_log = logging.getLogger(__name__)


def find() -> str | None:
    """The path of the command; None where there is none."""
    return shutil.which("ffmpeg") or shutil.which("ffmpeg", path=os.pathsep.join(FOLDERS))


def blocks(path: Path, name: Path) -> Iterator[tuple[int, np.ndarray]]:
    """The sample rate with each 10 s of samples (N, C) float32, C channels.

    Args:
        name: what messages call the file at ``path``.

    Raises:
        AudioError: there is no ffmpeg, or it finds no sound in the file. Damage that leaves some
            sound is logged.
    """
    ffmpeg = find()
    if ffmpeg is None:
        wav = shlex.quote(f"{name.stem}.wav")
        raise AudioError(
            f"{name} needs a decoder for {name.suffix.lower() or 'its format'}: install ffmpeg "
            f"({_INSTALL}) or mlx-audio-turbo[codecs], or convert it elsewhere to wav "
            f"(with ffmpeg: ffmpeg -i {shlex.quote(name.name)} {wav})"
        )
    # The absolute path is no URL, and a file cannot lead ffmpeg to another place.
    allowed = ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]
    source = [*allowed, "-i", str(path.absolute())]
    command = [ffmpeg, "-nostdin", "-v", "error", *source, "-vn"]
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
            f"{name} cannot be read as audio ({complaint or 'ffmpeg failed'}); export it again, or "
            "give a wav, flac, mp3 or ogg file"
        )
    if complaint:
        _log.warning(
            "%s is damaged (%s); what can be read of it is taken: export it again", name, complaint
        )


def _decoded(pipe: IO[bytes]) -> Iterator[tuple[int, np.ndarray]]:
    head = pipe.read(_HEADER.size)
    if len(head) < _HEADER.size:
        return
    _, offset, _, _, rate, channels = _HEADER.unpack(head)
    pipe.read(offset - _HEADER.size)
    # A forged rate takes no more memory than the highest rate that is accepted.
    while content := pipe.read(10 * min(rate, 192_000) * channels * 2):
        whole = len(content) // (2 * channels) * 2 * channels
        samples = np.frombuffer(content[:whole], ">i2").reshape(-1, channels)
        yield rate, samples.astype(np.float32) / 32_768


def _complaint(said: str, path: Path) -> str:
    """The first line of ffmpeg's messages, without its source and the path."""
    if "does not contain any stream" in said:
        return "there is no sound in it"
    if "Format not on whitelist" in said:
        return "it is no recording"
    line = next(iter(said.strip().splitlines()), "")
    return re.sub(r"^\[[^]]*\] ", "", line).removeprefix(f"{path.absolute()}: ").rstrip(".")
