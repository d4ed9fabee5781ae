"""Speech tokens → samples, as the tokens come.

The encoder and the estimator of S3Gen hear everything at once, prompt included. A chunk is
therefore made over the prompt, a window of past tokens and the new ones; the noise of every frame
is that of its position, so that neighbouring chunks agree, and the frames where they overlap are
blended. What is once given to the vocoder stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx
import numpy as np

from ..config import FRAMES_PER_TOKEN, SILENCE, RenderingConfig
from ..loading.networks import S3Gen
from ..ops import blas
from ..options import ChunkOptions
from ..voice import Voice
from .noise import Draws
from .streaming_vocoder import Vocoder

TOKEN_LOOKAHEAD = 3
"""Tokens that the encoder hears ahead of the one it encodes."""
LOOKAHEAD = 10
"""Mel frames that streaming withholds from the vocoder's output; see ``Vocoder.push``."""
BLEND = 4
"""Mel frames over which one chunk gives way to the next."""
LIKE = 0.75
"""How long an utterance is at least of the longest that it is rendered together with."""
HELD = TOKEN_LOOKAHEAD + (LOOKAHEAD + BLEND) // FRAMES_PER_TOKEN
"""Tokens that are known before the audio of a token can be given, 0.4 s of speech."""


def tokens_due(chunk: int, options: ChunkOptions) -> int:
    """Tokens that must be known before the chunk of this index is rendered."""
    repeats = max(0, chunk + 1 - len(options.sizes))
    return HELD + sum(options.sizes[: chunk + 1]) + repeats * options.sizes[-1]


class Renderer:
    """One utterance's way from tokens to samples."""

    def __init__(
        self,
        s3gen: S3Gen,
        voice: Voice,
        draws: Draws,
        config: RenderingConfig,
        *,
        window: int = 0,
    ):
        self._config = config
        self._flow, self._draws, self._window = s3gen.flow, draws, window
        self._vocoder = Vocoder(s3gen.mel2wav, draws)
        self._mels = voice.s3gen_prompt_mel.shape[1]
        self._prompt_tokens = mx.array(voice.s3gen_prompt_tokens)[None]
        self._prompt_mel = mx.array(voice.s3gen_prompt_mel)[None]
        self._x_vector = mx.array(voice.x_vector)[None]
        self._given = 0  # frames that the vocoder has
        self._held: mx.array | None = None  # the last chunk's version of the frames that follow

    def push(self, tokens: Sequence[int], *, final: bool) -> Iterator[np.ndarray]:
        """Samples (N,) that are ready, in pieces; over all calls 960 per token, the closing
        silence included.

        Args:
            tokens: all speech tokens so far, of this call and those before.
            final: no more will come. Before that, the last three tokens only let the ones before
                them hear what follows.
        """
        pieces = self._pieces(tokens, final=final)
        while True:
            with blas.one_thread():  # the networks spread their work over the cores themselves
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def _pieces(self, tokens: Sequence[int], *, final: bool) -> Iterator[np.ndarray]:
        if final:
            tokens = self._closed(tokens)
        mel = self._mel(tokens, final=final)
        if mel is not None:
            yield from self._vocoder.push(mel, final=final, lookahead=LOOKAHEAD)

    def _mel(self, tokens: Sequence[int], *, final: bool) -> mx.array | None:
        """The frames (1, n, mels) that are settled now."""
        start = 0
        if self._given:
            start = max(0, self._given // FRAMES_PER_TOKEN - self._window)
        first = FRAMES_PER_TOKEN * start
        states = self._flow(
            _row(tokens[start:]),
            prompt_tokens=self._prompt_tokens,
            prompt_mel=self._prompt_mel,
            x_vector=self._x_vector,
            noise=self._noise(first, FRAMES_PER_TOKEN * len(tokens) - first),
            final=final,
        )
        mel = _last(states)[:, self._given - first :]
        if self._held is not None:
            mel = _blend(self._held, mel)
        settled = mel.shape[1] if final else mel.shape[1] - BLEND
        if settled <= 0:
            return None
        self._held = mel[:, settled:]
        self._given += settled
        return mel[:, :settled]

    def _noise(self, first: int, frames: int) -> mx.array:
        """Of the prompt's frames and of ``frames`` of speech from ``first`` on, (1, n, mels)."""
        known = self._prompt_mel.shape[1]
        prompt = self._draws.flow(0, known, self._mels)
        speech = self._draws.flow(known + first, frames, self._mels)
        return mx.concatenate([prompt, speech], axis=1) * self._config.noise_scale

    def _closed(self, tokens: Sequence[int]) -> list[int]:
        return [*tokens, *[SILENCE] * self._config.closing_silence]


def push_together(
    renderers: Sequence[Renderer], tokens: Sequence[Sequence[int]]
) -> list[list[np.ndarray]]:
    """What ``push(tokens, final=True)`` gives of whole utterances, for each its pieces.

    Their mel is made together, padded to the longest behind prompts of one length; each gets what
    it would get alone. The vocoder takes them one by one, in blocks that bound its memory.

    Raises:
        ValueError: the prompts differ in length.
    """
    if len({renderer._prompt_mel.shape[1] for renderer in renderers}) > 1:
        raise ValueError("prompts of several lengths cannot be rendered together")
    closed = [each._closed(some) for each, some in zip(renderers, tokens, strict=True)]
    counts = [FRAMES_PER_TOKEN * len(some) for some in closed]
    noise = [each._noise(0, count) for each, count in zip(renderers, counts, strict=True)]
    with blas.one_thread():
        states = renderers[0]._flow(
            _padded([_row(some) for some in closed]),
            prompt_tokens=mx.concatenate([renderer._prompt_tokens for renderer in renderers]),
            prompt_mel=mx.concatenate([renderer._prompt_mel for renderer in renderers]),
            x_vector=mx.concatenate([renderer._x_vector for renderer in renderers]),
            noise=_padded(noise),
            lengths=mx.array([len(some) for some in closed]),
        )
        mel = _last(states)
        return [
            list(renderer._vocoder.push(mel[row : row + 1, :count], final=True))
            for row, (renderer, count) in enumerate(zip(renderers, counts, strict=True))
        ]


def _last(states: Iterator[mx.array]) -> mx.array:
    """The last of the solver's states, each evaluated before the next is built: the graph of one
    step is in memory."""
    state = next(states)
    mx.async_eval(state)
    for state in states:
        mx.async_eval(state)
    return state


def _padded(rows: Sequence[mx.array]) -> mx.array:
    """Rows (1, n, ...) of several lengths as one array, zeros at the right."""
    longest = max(row.shape[1] for row in rows)
    ends = [[(0, 0), (0, longest - row.shape[1])] + [(0, 0)] * (row.ndim - 2) for row in rows]
    return mx.concatenate([mx.pad(row, end) for row, end in zip(rows, ends, strict=True)])


def alike(utterances: Sequence[tuple[Renderer, Sequence[int]]]) -> list[list[int]]:
    """The indices of those that are worth rendering together: of like length and prompt."""
    groups: list[list[int]] = []
    sizes = [(renderer._prompt_mel.shape[1], len(tokens)) for renderer, tokens in utterances]
    for index in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        prompt, length = sizes[index]
        if groups:
            other, longest = sizes[groups[-1][0]]
            if other == prompt and length >= LIKE * longest:
                groups[-1].append(index)
                continue
        groups.append([index])
    return groups


def _row(tokens: Sequence[int]) -> mx.array:
    """(1, T)."""
    return mx.array(np.asarray(tokens, np.int32))[None]


def _blend(old: mx.array, new: mx.array) -> mx.array:
    """``new`` (1, n, mels), its first frames faded over from ``old`` (1, m, mels)."""
    count = min(old.shape[1], new.shape[1])
    share = (mx.arange(1, count + 1) / (count + 1))[:, None]
    mixed = old[:, :count] * (1 - share) + new[:, :count] * share
    return mx.concatenate([mixed, new[:, count:]], axis=1)
