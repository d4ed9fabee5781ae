"""Speech tokens → samples, as the tokens arrive.

S3Gen's encoder and estimator attend to the whole sequence, prompt included. A chunk is therefore
computed over the prompt, a window of past tokens and the new tokens. The noise of each frame
belongs to its position, so that neighbouring chunks agree, and the frames where two chunks overlap
are blended. Frames that were given to the vocoder never change.
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
from .noise import NoiseSource
from .streaming_vocoder import StreamingVocoder

TOKEN_LOOKAHEAD = 3
"""Tokens after a token that the encoder needs to encode it."""
MEL_LOOKAHEAD = 10
"""Mel frames that a stream holds back from the vocoder; see ``StreamingVocoder.push``."""
BLEND_FRAMES = 4
"""Mel frames over which a chunk fades into the next one."""
MIN_LENGTH_RATIO = 0.75
"""Utterances are rendered together if the shortest has at least this share of the longest."""
LATENCY_TOKENS = TOKEN_LOOKAHEAD + (MEL_LOOKAHEAD + BLEND_FRAMES) // FRAMES_PER_TOKEN
"""Tokens that must follow a token before its audio is final: 0.4 s of speech."""


def tokens_due(chunk: int, options: ChunkOptions) -> int:
    """Tokens that must be known before the chunk of this index is rendered."""
    repeats = max(0, chunk + 1 - len(options.sizes))
    return LATENCY_TOKENS + sum(options.sizes[: chunk + 1]) + repeats * options.sizes[-1]


class TokenToWav:
    """S3Gen and the vocoder of one utterance, with the state between its chunks.

    Args:
        window: past tokens that each chunk computes again as context.
    """

    def __init__(
        self,
        s3gen: S3Gen,
        voice: Voice,
        noise: NoiseSource,
        config: RenderingConfig,
        *,
        window: int = 0,
    ):
        self._config = config
        self._flow, self._random, self._window = s3gen.flow, noise, window
        self._vocoder = StreamingVocoder(s3gen.mel2wav, noise)
        self._mels = voice.s3gen_prompt_mel.shape[1]
        self._prompt_tokens = mx.array(voice.s3gen_prompt_tokens)[None]
        self._prompt_mel = mx.array(voice.s3gen_prompt_mel)[None]
        self._x_vector = mx.array(voice.x_vector)[None]
        self._emitted = 0  # frames that the vocoder has
        self._overlap: mx.array | None = None  # the last chunk's version of the next frames

    def push(self, tokens: Sequence[int], *, final: bool) -> Iterator[np.ndarray]:
        """The samples (N,) that are now final, in blocks; 960 per token over all calls.

        Args:
            tokens: all speech tokens so far, including those of earlier calls.
            final: no more tokens follow; the closing silence is added. Otherwise the last three
                tokens serve as context only.
        """
        blocks = self._blocks(tokens, final=final)
        while True:
            with blas.one_thread():  # the networks use the other cores themselves
                block = next(blocks, None)
            if block is None:
                return
            yield block

    def _blocks(self, tokens: Sequence[int], *, final: bool) -> Iterator[np.ndarray]:
        if final:
            tokens = self._closed(tokens)
        mel = self._mel(tokens, final=final)
        if mel is not None:
            yield from self._vocoder.push(mel, final=final, lookahead=MEL_LOOKAHEAD)

    def _mel(self, tokens: Sequence[int], *, final: bool) -> mx.array | None:
        """The frames (1, n, mels) that are now final."""
        start = 0
        if self._emitted:
            start = max(0, self._emitted // FRAMES_PER_TOKEN - self._window)
        first = FRAMES_PER_TOKEN * start
        states = self._flow(
            _row(tokens[start:]),
            prompt_tokens=self._prompt_tokens,
            prompt_mel=self._prompt_mel,
            x_vector=self._x_vector,
            noise=self._noise(first, FRAMES_PER_TOKEN * len(tokens) - first),
            final=final,
        )
        mel = _last(states)[:, self._emitted - first :]
        if self._overlap is not None:
            mel = _blend(self._overlap, mel)
        count = mel.shape[1] if final else mel.shape[1] - BLEND_FRAMES
        if count <= 0:
            return None
        self._overlap = mel[:, count:]
        self._emitted += count
        return mel[:, :count]

    def _noise(self, first: int, frames: int) -> mx.array:
        """Noise (1, n, mels): the prompt's frames, then ``frames`` of speech from ``first`` on."""
        known = self._prompt_mel.shape[1]
        prompt = self._random.flow(0, known, self._mels)
        speech = self._random.flow(known + first, frames, self._mels)
        return mx.concatenate([prompt, speech], axis=1) * self._config.noise_scale

    def _closed(self, tokens: Sequence[int]) -> list[int]:
        return [*tokens, *[SILENCE] * self._config.closing_silence]


def render_batch(
    renderers: Sequence[TokenToWav], tokens: Sequence[Sequence[int]]
) -> list[list[np.ndarray]]:
    """The blocks that ``push(tokens, final=True)`` gives for each of several whole utterances.

    One batch computes their mel, padded to the longest, after prompts of one length. Each result
    equals that of the utterance alone. The vocoder takes the utterances one by one, which bounds
    its memory.

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
    """Rows (1, n, ...) of several lengths as one array, padded with zeros on the right."""
    longest = max(row.shape[1] for row in rows)
    ends = [[(0, 0), (0, longest - row.shape[1])] + [(0, 0)] * (row.ndim - 2) for row in rows]
    return mx.concatenate([mx.pad(row, end) for row, end in zip(rows, ends, strict=True)])


def group_by_length(utterances: Sequence[tuple[TokenToWav, Sequence[int]]]) -> list[list[int]]:
    """Indices of utterances that one batch renders without waste: similar length, same prompt."""
    groups: list[list[int]] = []
    sizes = [(renderer._prompt_mel.shape[1], len(tokens)) for renderer, tokens in utterances]
    for index in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        prompt, length = sizes[index]
        if groups:
            other, longest = sizes[groups[-1][0]]
            if other == prompt and length >= MIN_LENGTH_RATIO * longest:
                groups[-1].append(index)
                continue
        groups.append([index])
    return groups


def _row(tokens: Sequence[int]) -> mx.array:
    """(1, T)."""
    return mx.array(np.asarray(tokens, np.int32))[None]


def _blend(old: mx.array, new: mx.array) -> mx.array:
    """``new`` (1, n, mels) with a cross-fade from ``old`` (1, m, mels) over its first frames."""
    count = min(old.shape[1], new.shape[1])
    share = (mx.arange(1, count + 1) / (count + 1))[:, None]
    mixed = old[:, :count] * (1 - share) + new[:, :count] * share
    return mx.concatenate([mixed, new[:, count:]], axis=1)
