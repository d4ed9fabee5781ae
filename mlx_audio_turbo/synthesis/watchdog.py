"""Clean endings: where speech ends in the samples, and when the tokens have run astray."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..config import TOKENS_PER_SECOND
from ..errors import AudioError, OptionError
from ..options import LONGEST_CYCLE, TrimOptions, WatchdogOptions

FRAME_SECONDS = 0.02
MIN_SPEECH_FRAMES = 3
"""Frames in a row that make speech: 60 ms is less than any syllable and more than a click."""


def trim(audio: np.ndarray, *, sample_rate: int, options: TrimOptions | None = None) -> int:
    """How many samples of ``audio`` (samples,) to keep: to a margin past the last speech.

    Speech is what is louder, for 60 ms, than the threshold against the utterance's own level;
    only what follows the last of it goes, so that no pause inside is ever cut. In read speech the
    last consonants fade from -20 dB to -35 dB within 0.14 s: the margin is more than that. Where
    nothing stands out (silence, or even noise throughout) all is kept, for there is no speech to
    measure against.

    Raises:
        AudioError: not one channel of samples.
        OptionError: no sample rate.
    """
    options = options or TrimOptions()
    if audio.ndim != 1:
        raise AudioError(f"trim wants one channel, not an array of shape {audio.shape}")
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
    """The mean of the frames' levels, each weighted by itself: seconds of silence or faint noise
    hardly lower it and a click hardly raises it, where a percentile fails on a short word."""
    total = rms.sum()
    return float(np.sum(rms**2) / total) if total > 0 else 0.0


def fade_out(audio: np.ndarray, *, sample_rate: int, seconds: float = 0.01) -> np.ndarray:
    """A copy of ``audio`` (samples,) whose last ``seconds`` fall to zero along a raised cosine, so
    that a cut does not click.

    Raises:
        OptionError: ``seconds`` is negative.
    """
    if not seconds >= 0:
        raise OptionError(f"a fade of {seconds} s cannot be; give 0 or more seconds")
    faded = audio.copy()
    samples = min(len(audio), round(seconds * sample_rate))
    ramp = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, samples + 1) / max(1, samples))
    faded[len(audio) - samples :] *= ramp.astype(audio.dtype)
    return faded


@dataclass(frozen=True)
class Verdict:
    """What the watchdog saw: ``length`` tokens from index ``start`` on, up to the one just fed.

    ``period`` is the length of the cycle, and 1 for a run and for silence.
    """

    kind: Literal["run", "silence", "cycle"]
    start: int
    length: int
    period: int = 1

    def __str__(self) -> str:
        what = {
            "run": "one token repeated",
            "silence": "silence",
            "cycle": f"a cycle of {self.period} tokens repeated",
        }[self.kind]
        return (
            f"{what} for {self.length / TOKENS_PER_SECOND:.1f} s "
            f"from {self.start / TOKENS_PER_SECOND:.1f} s on"
        )


class Watchdog:
    """Watches one utterance's speech tokens, each as it is drawn.

    On a verdict the caller ends the utterance at ``verdict.start`` or draws it again, with a new
    watchdog. Fed on, it repeats itself for as long as the stretch goes on.
    """

    def __init__(self, options: WatchdogOptions | None = None) -> None:
        self._options = options or WatchdogOptions()
        self._recent: deque[int] = deque(maxlen=LONGEST_CYCLE)
        self._repeats = [0] * (
            LONGEST_CYCLE + 1
        )  # by period: tokens in a row equal to the one then
        self._silent = 0
        self._fed = 0

    def feed(self, token: int) -> Verdict | None:
        """What is wrong with the tokens so far, if anything."""
        for period in range(1, LONGEST_CYCLE + 1):
            equal = period <= len(self._recent) and self._recent[-period] == token
            self._repeats[period] = self._repeats[period] + 1 if equal else 0
        self._recent.append(token)
        self._fed += 1
        self._silent = self._silent + 1 if token in self._options.silence else 0
        if self._silent > self._options.max_silence:
            return self._verdict("silence", self._silent)
        if self._silent:
            return None
        run = self._repeats[1] + 1
        if run > self._options.max_run:
            return self._verdict("run", run)
        for period in range(2, LONGEST_CYCLE + 1):
            length = self._repeats[period] + period
            if self._repeats[1] < period and length > self._options.max_cycle:
                return self._verdict("cycle", length, period)
        return None

    def _verdict(
        self, kind: Literal["run", "silence", "cycle"], length: int, period: int = 1
    ) -> Verdict:
        return Verdict(kind, self._fed - length, length, period)
