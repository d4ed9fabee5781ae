"""Any clip that people have to samples: formats, rates, channels, and the useful part of an hour.

Dimensions: N samples, C channels, S seconds, F frames of 20 ms in a second.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AudioError, OptionError

if TYPE_CHECKING:
    import soundfile

LONGEST_WHOLE = 60.0
"""Seconds; a longer clip is not taken whole."""
PART = 30.0
"""Seconds that are taken of it: twice what prompts the model."""
RATES = (8_000, 192_000)
CHANNELS = 8
FRAME = 0.02

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """samples (N, C) float32, ``start`` seconds into a clip of ``duration`` seconds."""

    samples: np.ndarray
    sample_rate: int
    start: float
    duration: float


def read_part(path: Path, start: float | None) -> Part:
    """A clip of up to 60 s whole, of a longer one 30 s: the best, or those from ``start`` on.

    Raises:
        AudioError: no decoder can read it, or it is no clip of a voice.
        OptionError: ``start`` is negative.
    """
    if start is not None and not start >= 0:
        raise OptionError(f"the part of the clip starts at {start} s; give 0 or more seconds")
    with _opened(path) as file:
        rate = file.samplerate
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioError(f"{path} has {rate} samples a second; give 8,000 to 192,000")
        if file.channels > CHANNELS:
            raise AudioError(f"{path} has {file.channels} channels; give 1 to {CHANNELS}")
        duration = file.frames / rate
        if start is None and duration <= LONGEST_WHOLE:
            return Part(file.read(dtype="float32", always_2d=True), rate, 0.0, duration)
        if start is None:
            start = _best_start(_levels(file, path), PART)
            _log.warning(
                "%s is %s long; the 30 s from %s on are taken (ref_start chooses others)",
                *(path, _clock(duration), _clock(start)),
            )
        if start >= duration:
            raise AudioError(
                f"{path} is {_clock(duration)} long; start before that, not at {_clock(start)}"
            )
        file.seek(round(start * rate))
        samples = file.read(round(PART * rate), dtype="float32", always_2d=True)
        return Part(samples, rate, start, duration)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    import soundfile

    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, OSError) as error:
        if isinstance(error, OSError) or not _may_be_compressed(path):
            raise AudioError(
                f"{path} cannot be read as audio ({reason(error)}); "
                "give a wav, flac, mp3, ogg or m4a file"
            ) from error
        with tempfile.TemporaryDirectory() as folder:
            yield from _through_ffmpeg(path, Path(folder) / "clip.wav")
        return
    with file:
        try:
            yield file
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(f"{path} is damaged ({reason(error)}); export it again") from error


def _through_ffmpeg(path: Path, wav: Path) -> Iterator[soundfile.SoundFile]:
    """AAC and its like, which libsndfile cannot decode."""
    import soundfile

    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise AudioError(
            f"{path} needs a decoder for {path.suffix.lower() or 'its format'}: install ffmpeg, or "
            f"convert it elsewhere to wav (with ffmpeg: ffmpeg -i {path.name} {path.stem}.wav)"
        )
    command = [ffmpeg, "-nostdin", "-v", "error", "-y", "-i", str(path.absolute()), "-vn"]
    done = subprocess.run([*command, "-c:a", "pcm_s16le", str(wav)], capture_output=True)
    if done.returncode or not wav.exists():
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no audio in it"]
        raise AudioError(
            f"{path} cannot be read as audio ({lines[-1]}); give a wav, flac, mp3, ogg or m4a file"
        )
    with soundfile.SoundFile(wav) as file:
        yield file


def _may_be_compressed(path: Path) -> bool:
    """By what stands in the file rather than its name: MP4 boxes, ADTS frames, Matroska, ASF."""
    with open(path, "rb") as file:
        head = file.read(12)
    return (
        head[4:8] == b"ftyp"
        or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0)
        or head[:4] in (b"\x1aE\xdf\xa3", b"\x30\x26\xb2\x75")
    )


def _levels(file: soundfile.SoundFile, path: Path) -> np.ndarray:
    """Level in dB of every 20 ms, read in blocks: an hour need not stand in memory."""
    frame = round(FRAME * file.samplerate)
    powers = []
    for block in file.blocks(500 * frame, dtype="float32", always_2d=True):
        mono = block[: len(block) // frame * frame].mean(axis=1)
        powers.append(np.mean(mono.reshape(-1, frame).astype(np.float64) ** 2, axis=1))
    power = np.concatenate(powers)
    if not np.all(np.isfinite(power)):
        raise AudioError(f"{path} holds NaN or infinite samples; export the clip again")
    return (10 * np.log10(power + 1e-12)).astype(np.float32)


def _best_start(levels: np.ndarray, seconds: float) -> float:
    """Where ``seconds`` of clean speech begin, in seconds.

    Within each second speech rises and falls by 30 dB; music, noise and what has noise behind it do
    less. So a second is worth the range of its levels, and nothing if it is far softer than others.
    """
    per_second = round(1 / FRAME)
    blocks = levels[: len(levels) // per_second * per_second].reshape(-1, per_second)  # (S, F)
    low, high = np.percentile(blocks, (10, 90), axis=1)
    worth = np.minimum(high - low, 30) * (high > np.percentile(high, 95) - 20)
    total = np.cumsum(np.concatenate([[0.0], worth]))
    count = round(seconds)
    value = total[count:] - total[:-count]
    first = int(np.argmax(value > 0.98 * value.max())) * per_second
    # Begin in the softest moment of the first second, rather than within a word.
    first += int(np.argmin(levels[first : first + per_second]))
    return min(first * FRAME, len(levels) * FRAME - seconds)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f} min"


def reason(error: Exception) -> str:
    """What the system or libsndfile says, in a few words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # libsndfile says "Error opening 'path': Reason."
    return str(error).rsplit("': ", 1)[-1].strip().rstrip(".")
