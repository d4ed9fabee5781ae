"""A reference clip → samples: rates, channels, and the useful part of a long recording.

Dimensions: N samples, C channels, S seconds, F frames of 20 ms in a second.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import AudioError, OptionError
from . import decoders

LONGEST_WHOLE = 60.0
"""Seconds. Of a longer clip a part is taken."""
PART = 30.0
"""Seconds of the part: twice what prompts the model."""
RATES = (8_000, 192_000)
CHANNELS = 8
FRAME = 0.02
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Samples of a clip.

    samples: (N, C) float32, from ``start`` seconds on.
    duration: seconds of the clip.
    """

    samples: np.ndarray
    sample_rate: int
    start: float
    duration: float


def read_part(path: Path, start: float | None, *, longest: float | None = None) -> Part:
    """A clip of up to 60 s whole; of a longer one 30 s: the best, or those from ``start`` on.

    The clip is read forwards to its end, whatever its header says of its length.

    Raises:
        AudioError: no decoder can read it, it is no clip of a voice, or it has more than
            ``longest`` seconds.
        OptionError: ``start`` is negative.
    """
    if start is not None and not start >= 0:
        raise OptionError(f"the part of the clip starts at {start} s; give 0 or more seconds")
    with decoders.regular_file(path) as file:
        if start is not None:
            return _cut(file, path, start, longest)
        rate, count = 0, 0
        beginning: list[np.ndarray] = []
        levels: list[np.ndarray] = []
        for rate, block in decoders.blocks(file, path):
            _check(path, rate, block.shape[1])
            check_length(path, count + len(block), rate, longest)
            if count <= LONGEST_WHOLE * rate:
                beginning.append(block)
            levels.append(_levels(block, _frame(rate)))
            count += len(block)
        if not count:
            raise AudioError(f"{path} holds no samples; give another clip")
        duration = count / rate
        if duration <= LONGEST_WHOLE:
            return Part(np.concatenate(beginning), rate, 0.0, duration)
        return _cut(file, path, _chosen(path, levels, duration))


def _cut(file: Path, path: Path, start: float, longest: float | None = None) -> Part:
    """30 s from ``start`` seconds on, or as many as there are."""
    rate, position = 0, 0
    taken: list[np.ndarray] = []
    for rate, block in decoders.blocks(file, path):
        _check(path, rate, block.shape[1])
        check_length(path, position + len(block), rate, longest)
        first, stop = round(start * rate), round(start * rate) + round(PART * rate)
        part = block[max(0, first - position) : max(0, stop - position)]
        position += len(block)
        if len(part):
            taken.append(part)
    duration = position / rate if rate else 0.0
    _check_start(path, start, duration)
    return Part(np.concatenate(taken), rate, start, duration)


def _check(path: Path, rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{path} has {rate} samples a second; give 8,000 to 192,000")
    if channels > CHANNELS:
        raise AudioError(f"{path} has {channels} channels; give 1 to {CHANNELS}")


def check_length(path: Path, count: int, rate: int, longest: float | None) -> None:
    """Refuse a file that has more than ``longest`` seconds.

    Raises:
        AudioError: it has.
    """
    if longest is not None and count > longest * rate:
        raise AudioError(f"{path} is longer than {longest:g} s; give a part of it")


def _check_start(path: Path, start: float, duration: float) -> None:
    if start >= duration:
        raise AudioError(
            f"{path} is {_clock(duration)} long; start before that, not at {_clock(start)}"
        )


def _chosen(path: Path, levels: Sequence[np.ndarray], duration: float) -> float:
    """Where the best part begins; logged."""
    power = np.concatenate(levels)
    if not np.all(np.isfinite(power)):
        raise AudioError(f"{path} holds NaN or infinite samples; export the clip again")
    start = _best_start(power, PART)
    _log.warning(
        "%s is %s long; the 30 s from %s on are taken (ref_start chooses others)",
        *(path, _clock(duration), _clock(start)),
    )
    return start


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
