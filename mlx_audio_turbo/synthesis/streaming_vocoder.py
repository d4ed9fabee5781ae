"""Mel → samples, in blocks that join exactly.

A sample depends on 15 frames of mel and source on either side, so a block that is decoded with that
much context equals the same samples of the whole. The phase of the source is summed on the host in
float64 and carried from block to block.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from ..errors import NotFiniteError
from ..hift.generator import FADE_SAMPLES, HiFTGenerator, fade_in
from ..hift.source import phase_offsets
from .noise import NoiseSource

CONTEXT_FRAMES = 16
"""Frames on either side that can change a sample, rounded up."""
BLOCK = 250
"""Frames decoded together. This bounds the memory of a long utterance."""
F0_CONTEXT_FRAMES = 5
"""Frames on either side that can change an F0: one for each of its convolutions of width three."""


class StreamingVocoder:
    """The vocoder of one utterance, with the state between its blocks."""

    def __init__(self, network: HiFTGenerator, noise: NoiseSource):
        self._network, self._noise = network, noise
        self._harmonics = network.config.harmonics
        self._hop = network.config.samples_per_frame
        self._phases = noise.phases(self._harmonics)
        self._mel: mx.array | None = None
        self._source: mx.array | None = None
        self._start = 0  # first frame of both buffers
        self._done = 0  # frames whose samples were emitted
        self._cycles: np.ndarray | None = None  # phase at frame `_done`

    def push(
        self, mel: mx.array, *, final: bool, lookahead: int = CONTEXT_FRAMES
    ) -> Iterator[np.ndarray]:
        """Append ``mel`` (1, frames, mels); gives the samples (N,) that are now final, in blocks.

        Args:
            final: no more mel follows, so the samples of all frames are emitted.
            lookahead: frames that are held back until more mel is known. At 10 the error is 60 dB
                below the signal, at :data:`CONTEXT_FRAMES` there is none.

        Raises:
            NotFiniteError: the mel or the samples are not finite.
        """
        self._mel = mel if self._mel is None else mx.concatenate([self._mel, mel], axis=1)
        known = self._start + self._mel.shape[1]
        ready = known if final else known - lookahead
        if ready <= self._done or (not final and ready * self._hop < 2 * FADE_SAMPLES):
            return
        if not mx.all(mx.isfinite(self._mel)).item():
            raise NotFiniteError("S3Gen")
        self._excite(known, ready)
        while self._done < ready:
            stop = min(self._done + BLOCK, ready)
            yield self._decode(self._done, stop, min(known, stop + CONTEXT_FRAMES))
            self._release(stop)

    def _excite(self, known: int, ready: int) -> None:
        """Extend the source to frame ``known``. Its part after ``ready`` is computed again later,
        since the F0 there still lacks context."""
        assert self._mel is not None
        first = max(self._start, self._done - F0_CONTEXT_FRAMES)
        f0 = self._network.f0(self._mel[:, first - self._start :])[:, self._done - first :]
        offsets = phase_offsets(
            np.array(f0),
            harmonics=self._harmonics,
            samples_per_frame=self._hop,
            initial=self._cycles,
        )
        if ready < known:
            self._cycles = offsets[:, ready - self._done].astype(np.float64)
        noise = self._noise.source(self._done, known - self._done, self._harmonics)
        source = self._network.source(f0, mx.array(offsets), self._phases, noise)
        if self._source is not None:
            kept = self._source[:, : (self._done - self._start) * self._hop]
            source = mx.concatenate([kept, source], axis=1)
        self._source = source

    def _decode(self, start: int, stop: int, context_stop: int) -> np.ndarray:
        """The samples of frames ``start`` to ``stop``, with context up to ``context_stop``."""
        assert self._mel is not None and self._source is not None
        first = max(self._start, start - CONTEXT_FRAMES)
        begin, end = first - self._start, context_stop - self._start
        audio = self._network.decode(
            self._mel[:, begin:end],
            self._source[:, begin * self._hop : end * self._hop],
            compiled=True,
        )
        audio = audio[:, (start - first) * self._hop : (stop - first) * self._hop]
        samples = np.array(fade_in(audio) if start == 0 else audio)[0]
        if not np.isfinite(samples).all():
            raise NotFiniteError("HiFT")
        return samples

    def _release(self, done: int) -> None:
        """Drop the frames of the buffers that no later frame has as context."""
        assert self._mel is not None and self._source is not None
        self._done = done
        start = max(self._start, done - CONTEXT_FRAMES)
        self._mel = self._mel[:, start - self._start :]
        self._source = self._source[:, (start - self._start) * self._hop :]
        self._start = start
