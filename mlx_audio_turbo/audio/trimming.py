"""Where speech ends in an utterance, and a fade for the cut."""

from __future__ import annotations

import numpy as np

from ..errors import AudioError, OptionError
from ..options import TrimOptions

FRAME_SECONDS = 0.02
MIN_SPEECH_FRAMES = 3
"""Consecutive loud frames that count as speech: 60 ms is shorter than a syllable and longer than a
click."""


def speech_end(audio: np.ndarray, *, sample_rate: int, options: TrimOptions | None = None) -> int:
    """The number of samples of ``audio`` (samples,) up to the end of speech and its margin.

    Speech is at least 60 ms above the threshold, which is relative to the level of the utterance.
    Only what follows the last speech is cut; pauses between words are kept. The last consonants of
    read speech fade from -20 dB to -35 dB within 0.14 s, so the margin is longer than that. Audio
    without a quiet end (silence or steady noise throughout) is kept whole.

    Raises:
        AudioError: not one channel of samples.
        OptionError: the sample rate is not above 0.
    """
    options = options or TrimOptions()
    if audio.ndim != 1:
        raise AudioError(f"the audio has shape {audio.shape}; give one channel (samples,)")
    if sample_rate <= 0:
        raise OptionError(f"the sample rate is {sample_rate} Hz; give one above 0")
    frame = max(1, round(FRAME_SECONDS * sample_rate))
    frames = len(audio) // frame
    windows = audio[: frames * frame].reshape(frames, frame).astype(np.float64)
    rms = np.sqrt(np.mean(windows**2, axis=1))
    loud = rms > _speech_level(rms) * 10 ** (options.threshold_db / 20)
    edges = np.flatnonzero(np.diff(loud, prepend=False, append=False))
    starts, stops = edges[::2], edges[1::2]
    speech_stops = stops[stops - starts >= MIN_SPEECH_FRAMES]
    if not len(speech_stops) or speech_stops[-1] == frames:
        return len(audio)
    return min(len(audio), int(speech_stops[-1]) * frame + round(options.margin * sample_rate))


def _speech_level(rms: np.ndarray) -> float:
    """The mean of the frames' levels, each weighted by itself.

    Seconds of silence or faint noise hardly lower it and a click hardly raises it; a percentile
    fails on a short word.
    """
    total = rms.sum()
    return float(np.sum(rms**2) / total) if total > 0 else 0.0


def fade_out(audio: np.ndarray, *, sample_rate: int, seconds: float = 0.01) -> np.ndarray:
    """A copy of ``audio`` (samples,) whose last ``seconds`` fall to zero along a raised cosine.

    Raises:
        OptionError: ``seconds`` is negative.
    """
    if not seconds >= 0:
        raise OptionError(f"a fade of {seconds} s is negative; give 0 or more seconds")
    faded = audio.copy()
    samples = min(len(audio), round(seconds * sample_rate))
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, samples + 1) / max(1, samples))
    faded[len(audio) - samples :] *= ramp.astype(audio.dtype)
    return faded
