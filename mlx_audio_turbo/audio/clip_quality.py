"""What may spoil a voice, told plainly: nothing here refuses a clip."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FRAME = 0.02
GOOD_SECONDS = 10.0
"""The model's prompt holds 15 s; below 10 s a voice is less like its owner."""
LONG_SILENCE = 3.0
NOISY_DB = 25.0
"""Read speech in a quiet room has pauses 35 to 60 dB below the voice."""
MUSICAL_DB = 12.0
"""With hardly a level below the voice's own there is no pause at all: music, a crowd, a machine."""

_log = logging.getLogger(__name__)


def log_warnings(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Log what :func:`warnings` has to say."""
    for warning in warnings(samples, sample_rate):
        _log.warning("%s %s", path, warning)


def warnings(samples: np.ndarray, sample_rate: int) -> list[str]:
    """What is wrong with a clip, each as half a sentence and a remedy; none if nothing is.

    Args:
        samples: (samples,) or (samples, channels), finite.
    """
    channels = samples.reshape(len(samples), -1)
    frame = round(FRAME * sample_rate)
    if len(channels) <= 5 * sample_rate:
        return []  # refused for its length anyway
    mono = channels.mean(axis=1)
    frames = mono[: len(mono) // frame * frame].reshape(-1, frame).astype(np.float64)
    levels = 20 * np.log10(np.sqrt(np.mean((frames - mono.mean()) ** 2, axis=1)) + 1e-6)
    return [*_length(len(mono) / sample_rate), *_clipping(channels), *_content(frames, levels)]


def _length(seconds: float) -> Iterator[str]:
    if seconds < GOOD_SECONDS:
        yield f"is only {seconds:.1f} s long; 10 to 15 s make a better voice"


def _clipping(channels: np.ndarray) -> Iterator[str]:
    """Where a wave is cut off, neighbouring samples stand at the same extreme."""
    peak = np.max(np.abs(channels))
    if peak < 0.5:
        return
    at_peak = np.abs(channels) >= 0.999 * peak
    flat = at_peak[1:] & at_peak[:-1] & (np.sign(channels[1:]) == np.sign(channels[:-1]))
    share = float(np.mean(flat))
    if share > 2e-4:
        yield f"is clipped ({share:.2%} of its samples); record it less loud"


def _content(frames: np.ndarray, levels: np.ndarray) -> Iterator[str]:
    voice = float(np.percentile(levels, 95))
    active = levels > voice - 25
    silence = _longest(levels < max(voice - 45, -70)) * FRAME
    if silence >= LONG_SILENCE:
        yield f"has {silence:.1f} s of silence at a stretch; cut it out"
    if active.sum() * FRAME < 5:
        yield f"has only {active.sum() * FRAME:.1f} s of sound; 10 to 15 s make a better voice"
    # Digital silence between words says nothing about the noise behind them.
    floor = float(np.percentile(levels[levels > -100], 10))
    if voice - floor < MUSICAL_DB:
        what = "music" if _tonal(frames[levels > -100]) else "steady noise"
        yield f"has hardly a pause, like {what}; give a voice alone"
    elif voice - floor < NOISY_DB:
        yield (
            f"is noisy (pauses are only {voice - floor:.0f} dB below the voice); "
            "give a cleaner recording"
        )


def _tonal(frames: np.ndarray) -> bool:
    """By spectral flatness: near 0.5 for white noise, far lower for tones."""
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1)) ** 2 + 1e-12
    flatness = np.exp(np.mean(np.log(power), axis=1)) / np.mean(power, axis=1)
    return float(np.median(flatness)) < 0.1


def _longest(flags: np.ndarray) -> int:
    """Length of the longest run of true ones."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int(np.max(edges[1::2] - edges[::2], initial=0))
