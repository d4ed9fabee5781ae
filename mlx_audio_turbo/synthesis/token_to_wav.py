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
from ..ops import on_gpu, parallel
from ..options import ChunkOptions
from ..s3gen.model import TokenToMel
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
MAX_BATCH_TOKENS = 8192
"""Rows times tokens of the longest, prompt included, that a batch renders: bounds its memory."""
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
        self._prompt_noise: mx.array | None = None
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
            with parallel.products_on_one_thread():
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
        mel = _solve(
            self._flow,
            [_row(tokens[start:])],
            [self._noise(first, FRAMES_PER_TOKEN * len(tokens) - first)],
            prompt_tokens=self._prompt_tokens,
            prompt_mel=self._prompt_mel,
            x_vector=self._x_vector,
            final=final,
        )[:, self._emitted - first :]
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
        if self._prompt_noise is None:
            self._prompt_noise = self._random.flow(0, known, self._mels)
        speech = self._random.flow(known + first, frames, self._mels)
        return mx.concatenate([self._prompt_noise, speech], axis=1) * self._config.noise_scale

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
    with parallel.products_on_one_thread():
        mel = _solve(
            renderers[0]._flow,
            [_row(some) for some in closed],
            noise,
            prompt_tokens=mx.concatenate([renderer._prompt_tokens for renderer in renderers]),
            prompt_mel=mx.concatenate([renderer._prompt_mel for renderer in renderers]),
            x_vector=mx.concatenate([renderer._x_vector for renderer in renderers]),
            final=True,
        )
        return [
            list(renderer._vocoder.push(mel[row : row + 1, :count], final=True))
            for row, (renderer, count) in enumerate(zip(renderers, counts, strict=True))
        ]


def _solve(
    flow: TokenToMel,
    tokens: Sequence[mx.array],
    noise: Sequence[mx.array],
    *,
    prompt_tokens: mx.array,
    prompt_mel: mx.array,
    x_vector: mx.array,
    final: bool,
) -> mx.array:
    """Mel (B, frames of the longest, M) of rows of ``tokens`` (1, n), with the noise of each.

    On a GPU the rows are padded to one of a few lengths, as back ends compile or plan by shape.
    """
    counts = [row.shape[1] for row in tokens]
    longest, known = max(counts), prompt_tokens.shape[1]
    length = bucket(known + longest) - known if on_gpu() else longest
    states = flow(
        _padded(tokens, length),
        prompt_tokens=prompt_tokens,
        prompt_mel=prompt_mel,
        x_vector=x_vector,
        noise=_padded(noise, FRAMES_PER_TOKEN * (known + length)),
        lengths=mx.array(counts) if min(counts) < length or len(counts) > 1 else None,
        final=final,
        compiled=True,
    )
    mel = next(states)
    mx.async_eval(mel)
    # The states are evaluated one by one, so that the graph of one step is in memory.
    for mel in states:
        mx.async_eval(mel)
    withheld = 0 if final else TOKEN_LOOKAHEAD
    return mel[:, : FRAMES_PER_TOKEN * (longest - withheld)]


def bucket(length: int) -> int:
    """The next of the lengths to pad to: 64 and four, evenly spaced, to each doubling."""
    step = 1 << max(4, (length - 1).bit_length() - 3)
    return -(-length // step) * step


def _padded(rows: Sequence[mx.array], length: int) -> mx.array:
    """Rows (1, n, ...) of several lengths as one array (B, length, ...), zeros on the right."""
    ends = [[(0, 0), (0, length - row.shape[1])] + [(0, 0)] * (row.ndim - 2) for row in rows]
    return mx.concatenate([mx.pad(row, end) for row, end in zip(rows, ends, strict=True)])


def group_by_length(utterances: Sequence[tuple[TokenToWav, Sequence[int]]]) -> list[list[int]]:
    """Indices of utterances that one batch renders: similar length, same prompt, bounded memory."""
    groups: list[list[int]] = []
    sizes = [(renderer._prompt_mel.shape[1], len(tokens)) for renderer, tokens in utterances]
    for index in sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True):
        prompt, length = sizes[index]
        if groups:
            other, longest = sizes[groups[-1][0]]
            size = (len(groups[-1]) + 1) * (prompt // FRAMES_PER_TOKEN + longest)
            fits = size <= MAX_BATCH_TOKENS and length >= MIN_LENGTH_RATIO * longest
            if other == prompt and fits:
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
