"""Any clip that people have to samples: formats, rates, channels, and the useful part of an hour.

Dimensions: N samples, C channels, S seconds, F frames of 20 ms in a second.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import AudioError, OptionError
from . import ffmpeg

if TYPE_CHECKING:
    import soundfile

LONGEST_WHOLE = 60.0
"""Seconds; a longer clip is not taken whole."""
PART = 30.0
"""Seconds that are taken of it: twice what prompts the model."""
RATES = (8_000, 192_000)
CHANNELS = 8
FRAME = 0.02
_HEADERLESS = (".raw", ".pcm", ".s16", ".s16le", ".f32", ".gsm", ".vox", ".ul", ".al", ".sln")
"""Suffixes of files without a header; for the remedy alone, as no name decides how one is read."""

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
        if file is None:
            return _through_ffmpeg(path, start)
        rate = file.samplerate
        _check(path, rate, file.channels)
        duration = file.frames / rate
        if start is None and duration <= LONGEST_WHOLE:
            return Part(file.read(dtype="float32", always_2d=True), rate, 0.0, duration)
        if start is None:
            frame = _frame(rate)
            blocks = file.blocks(500 * frame, dtype="float32", always_2d=True)
            start = _chosen(path, [_levels(block, frame) for block in blocks], duration)
        _check_start(path, start, duration)
        file.seek(round(start * rate))
        samples = file.read(round(PART * rate), dtype="float32", always_2d=True)
        return Part(samples, rate, start, duration)


def _through_ffmpeg(path: Path, start: float | None) -> Part:
    """Its length is known when all of it has been decoded; a part is then decoded once more."""
    rate, count, beginning, levels = 0, 0, [], []
    for rate, block in ffmpeg.blocks(path):
        _check(path, rate, block.shape[1])
        if count <= LONGEST_WHOLE * rate:
            beginning.append(block)
        levels.append(_levels(block, _frame(rate)))
        count += len(block)
    if not count:
        raise AudioError(f"{path} holds no samples; give another clip")
    duration = count / rate
    if start is None and duration <= LONGEST_WHOLE:
        return Part(np.concatenate(beginning), rate, 0.0, duration)
    if start is None:
        start = _chosen(path, levels, duration)
    _check_start(path, start, duration)
    part = [block for _, block in ffmpeg.blocks(path, "-ss", f"{start:.6f}", "-t", f"{PART}")]
    return Part(np.concatenate([*part, beginning[0][:0]]), rate, start, duration)


def _check(path: Path, rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path} has {rate} samples a second; give 8,000 to 192,000")
    if channels > CHANNELS:
        raise AudioError(f"{path} has {channels} channels; give 1 to {CHANNELS}")


def _check_start(path: Path, start: float, duration: float) -> None:
    if start >= duration:
        raise AudioError(
            f"{path} is {_clock(duration)} long; start before that, not at {_clock(start)}"
        )


def _chosen(path: Path, levels: Sequence[np.ndarray], duration: float) -> float:
    """Where the best part begins, which is told."""
    power = np.concatenate(levels)
    if not np.all(np.isfinite(power)):
        raise AudioError(f"{path} holds NaN or infinite samples; export the clip again")
    start = _best_start(power, PART)
    _log.warning(
        "%s is %s long; the 30 s from %s on are taken (ref_start chooses others)",
        *(path, _clock(duration), _clock(start)),
    )
    return start


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile | None]:
    """The file, or None where only ffmpeg may know it."""
    import soundfile

    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({reason(error)}); check the file") from error
    try:
        # By its handle: the name need not be UTF-8, and its suffix does not decide the format.
        try:
            file = soundfile.SoundFile(handle, closefd=False)
        except (soundfile.SoundFileError, OSError) as error:
            if isinstance(error, OSError) or not ffmpeg.may_decode(path):
                raise AudioError(
                    f"{path} cannot be read as audio ({reason(error)}); {_remedy(path)}"
                ) from error
            file = None
        if file is None:
            yield None
            return
        with file:
            try:
                yield file
            except (soundfile.SoundFileError, OSError) as error:
                raise AudioError(f"{path} is damaged ({reason(error)}); export it again") from error
    finally:
        os.close(handle)


def _remedy(path: Path) -> str:
    if path.suffix.lower() in _HEADERLESS:
        return (
            "samples without a header say neither their rate nor their format; give a wav "
            "(ffmpeg -f s16le -ar 24000 -ac 1 -i FILE clip.wav makes one, if that is what they are)"
        )
    return "give a wav, flac, mp3, ogg or m4a file"


def _frame(rate: int) -> int:
    return round(FRAME * rate)


def _levels(block: np.ndarray, frame: int) -> np.ndarray:
    """Level in dB of every ``frame`` samples of (N, C), the last if it is whole."""
    mono = block[: len(block) // frame * frame].mean(axis=1)
    power = np.mean(mono.reshape(-1, frame).astype(np.float64) ** 2, axis=1)
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
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f} min"


def reason(error: Exception) -> str:
    """What the system or libsndfile says, in a few words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
