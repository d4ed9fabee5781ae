"""Mel → samples, in pieces that join exactly.

A sample depends on the mel and the source of 15 frames on either side and on no more, so a piece
that is decoded with that much around it is what the whole would have been. The phase of the source
is summed on the host in float64 and carried from piece to piece.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from ..hift.generator import FADE_SAMPLES, HiFTGenerator, fade_in
from ..hift.source import phase_offsets
from .noise import Draws

REACH = 16
"""Frames on either side that a sample can hear."""
BLOCK = 250
"""Frames decoded together: bounds the memory of a long utterance, and costs a seventh more."""
F0_REACH = 5
"""Frames on either side that an F0 hears: one for each of its convolutions of three."""


class Vocoder:
    """One utterance's way from mel to samples."""

    def __init__(self, network: HiFTGenerator, draws: Draws):
        self._network, self._draws = network, draws
        self._harmonics = network.config.harmonics
        self._hop = network.config.samples_per_frame
        self._phases = draws.phases(self._harmonics)
        self._mel: mx.array | None = None
        self._source: mx.array | None = None
        self._start = 0  # the frame that both buffers begin with
        self._done = 0  # frames whose samples were given
        self._cycles: np.ndarray | None = None  # the phase at frame `done`

    def push(self, mel: mx.array, *, final: bool, lookahead: int = REACH) -> Iterator[np.ndarray]:
        """Samples (N,) that ``mel`` (1, frames, mels) makes possible, in pieces.

        Args:
            final: no more will come; the samples of all frames are given.
            lookahead: frames that are withheld until what follows them is known. At 10 the error
                is 60 dB under the signal, at :data:`REACH` nothing.
        """
        self._mel = mel if self._mel is None else mx.concatenate([self._mel, mel], axis=1)
        known = self._start + self._mel.shape[1]
        ready = known if final else known - lookahead
        if ready <= self._done or (not final and ready * self._hop < 2 * FADE_SAMPLES):
            return
        self._excite(known, ready)
        while self._done < ready:
            stop = min(self._done + BLOCK, ready)
            yield self._decode(self._done, stop, min(known, stop + REACH))
            self._forget(stop)

    def _excite(self, known: int, ready: int) -> None:
        """Extend the source to ``known``; what lies after ``ready`` will be made again."""
        assert self._mel is not None
        heard = max(self._start, self._done - F0_REACH)
        f0 = self._network.f0(self._mel[:, heard - self._start :])[:, self._done - heard :]
        offsets = phase_offsets(
            np.array(f0),
            harmonics=self._harmonics,
            samples_per_frame=self._hop,
            initial=self._cycles,
        )
        if ready < known:
            self._cycles = offsets[:, ready - self._done].astype(np.float64)
        noise = self._draws.source(self._done, known - self._done, self._harmonics)
        source = self._network.source(f0, mx.array(offsets), self._phases, noise)
        if self._source is not None:
            kept = self._source[:, : (self._done - self._start) * self._hop]
            source = mx.concatenate([kept, source], axis=1)
        self._source = source

    def _decode(self, start: int, stop: int, heard: int) -> np.ndarray:
        assert self._mel is not None and self._source is not None
        first = max(self._start, start - REACH)
        begin, end = first - self._start, heard - self._start
        audio = self._network.decode(
            self._mel[:, begin:end], self._source[:, begin * self._hop : end * self._hop]
        )
        audio = audio[:, (start - first) * self._hop : (stop - first) * self._hop]
        return np.array(fade_in(audio) if start == 0 else audio)[0]

    def _forget(self, done: int) -> None:
        """Keep of the buffers only what later frames can hear."""
        assert self._mel is not None and self._source is not None
        self._done = done
        start = max(self._start, done - REACH)
        self._mel = self._mel[:, start - self._start :]
        self._source = self._source[:, (start - self._start) * self._hop :]
        self._start = start
