"""What may spoil a voice made of a clip. Nothing here refuses a clip."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

FRAME = 0.02
GOOD_SECONDS = 10.0
"""S3Gen's prompt. A shorter clip makes a voice that is less like its speaker."""
LONG_SILENCE = 3.0
SPEECH_DB = 25.0
"""Speech stays this close to the voice's own level; its weakest sounds do not."""
MIN_SPEECH = 5.0
NOISY_DB = 20.0
"""Clean read speech has pauses 22 to 61 dB below the voice."""
STEADY_DB = 10.0
HUM_HZ = 65.0
"""Below the lowest voice."""
HUM_SHARE = 0.1
MUSICAL_DB = 12.0
"""With hardly a level below the voice's own there is no pause: music, a crowd, a machine."""

_log = logging.getLogger(__name__)


def log_warnings(path: Path, mono: np.ndarray, channels: np.ndarray, sample_rate: int) -> None:
    """Log the :func:`warnings` of a clip."""
    for warning in warnings(mono, sample_rate, channels=channels):
        _log.warning("%s %s", path, warning)


def warnings(
    mono: np.ndarray, sample_rate: int, *, channels: np.ndarray | None = None
) -> list[str]:
    """What may spoil a voice made of a clip, each as half a sentence with its remedy.

    Args:
        mono: (samples,), finite, what the voice is made of.
        channels: (samples, channels) as recorded, for clipping.
    """
    if len(mono) <= 5 * sample_rate:
        return []  # refused for its length
    frame = round(FRAME * sample_rate)
    frames = mono[: len(mono) // frame * frame].reshape(-1, frame).astype(np.float64)
    levels = 20 * np.log10(np.sqrt(np.mean((frames - mono.mean()) ** 2, axis=1)) + 1e-6)
    recorded = mono[:, None] if channels is None else channels
    return [
        *_length(len(mono) / sample_rate),
        *_clipping(recorded),
        *_hum(mono, sample_rate),
        *_content(frames, levels),
    ]


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


def _hum(mono: np.ndarray, sample_rate: int) -> Iterator[str]:
    """Power below the lowest voice: mains hum, wind, a table that is knocked."""
    size = 1 << 14
    count = len(mono) // size
    if not count:
        return
    frames = mono[: count * size].reshape(count, size) * np.hanning(size)
    power = np.mean(np.abs(np.fft.rfft(frames, axis=1)) ** 2, axis=0)
    frequency = np.fft.rfftfreq(size, 1 / sample_rate)
    low = power[(frequency > 5) & (frequency < HUM_HZ)].sum()
    if low > HUM_SHARE * power[frequency >= HUM_HZ].sum():
        yield f"has hum or rumble below {HUM_HZ:.0f} Hz; filter it out"


def _content(frames: np.ndarray, levels: np.ndarray) -> Iterator[str]:
    voice = float(np.percentile(levels, 95))
    # Digital silence between words says nothing about the noise behind them.
    floor = float(np.percentile(levels[levels > -100], 10))
    if voice - floor < MUSICAL_DB:
        what = "music" if _tonal(frames[levels > -100]) else "steady noise"
        yield f"has hardly a pause, like {what}; give a voice alone"
        return
    # Speech stands above the middle between the noise of the room and the voice.
    speech = (levels > max(voice - SPEECH_DB, (voice + floor) / 2)) & ~_steady(levels, voice)
    first = _first(speech) * FRAME
    longest = _longest(~speech) * FRAME
    if first >= LONG_SILENCE:
        yield f"begins with {first:.1f} s without speech; cut it off, or start later (ref_start)"
    elif longest >= LONG_SILENCE:
        yield f"has {longest:.1f} s without speech at a stretch; cut it out"
    spoken = _filled(speech)
    seconds, early = spoken.sum() * FRAME, spoken[: round(GOOD_SECONDS / FRAME)].sum() * FRAME
    if seconds < MIN_SPEECH:
        yield f"has only {seconds:.1f} s of speech; 10 to 15 s make a better voice"
    elif early < MIN_SPEECH and first < LONG_SILENCE:
        yield (
            f"has only {early:.1f} s of speech in its first {GOOD_SECONDS:.0f} s, which count "
            "most; cut the rest out"
        )
    if voice - floor < NOISY_DB:
        yield (
            f"is noisy (pauses are only {voice - floor:.0f} dB below the voice); "
            "give a cleaner recording"
        )


def _steady(levels: np.ndarray, voice: float) -> np.ndarray:
    """The frames of seconds in which the level hardly changes: the noise of a room or a machine.

    Within a second of speech the level changes by 20 to 40 dB.
    """
    second = round(1 / FRAME)
    steady = np.zeros(len(levels), bool)
    if len(levels) < second:
        return steady
    windows = np.lib.stride_tricks.sliding_window_view(levels, second)[:: second // 2]
    low, high = np.percentile(windows, (10, 90), axis=1)
    for index in np.flatnonzero((high - low < STEADY_DB) & (high < voice - STEADY_DB)):
        start = index * (second // 2)
        steady[start : start + second] = True
    return steady


def _first(speech: np.ndarray) -> int:
    """The frame where the first run of speech of at least 0.2 s begins, short gaps ignored."""
    edges = np.flatnonzero(np.diff(_filled(speech), prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    long = starts[stops - starts >= round(0.2 / FRAME)]
    return int(long[0]) if len(long) else 0


def _filled(speech: np.ndarray) -> np.ndarray:
    """``speech`` with the gaps between words, up to 0.4 s, counted as speech."""
    filled = speech.copy()
    edges = np.flatnonzero(np.diff(~speech, prepend=False, append=False))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if start and stop < len(speech) and stop - start <= round(0.4 / FRAME):
            filled[start:stop] = True
    return filled


def _tonal(frames: np.ndarray) -> bool:
    """By spectral flatness: near 0.5 for white noise, far lower for tones."""
    power = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), axis=1)) ** 2 + 1e-12
    flatness = np.exp(np.mean(np.log(power), axis=1)) / np.mean(power, axis=1)
    return float(np.median(flatness)) < 0.1


def _longest(flags: np.ndarray) -> int:
    """Length of the longest run of true ones."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return int(np.max(edges[1::2] - edges[::2], initial=0))
