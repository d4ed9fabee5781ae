"""T3's loop: one speech token after another, with the device always one step ahead of the host.

Dimensions: B batch, T time, P prompt tokens, C width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mlx.core as mx

from ..config import START_SPEECH, STOP_SPEECH
from ..errors import OptionError
from .cache import KeyValueCache
from .model import T3
from .sampling import SamplingOptions, mark, sample


def prefill_prefix(model: T3, speaker: mx.array, prompt_tokens: mx.array) -> KeyValueCache:
    """The cache after a voice's part of the sequence, which every sentence of it shares.

    Args:
        speaker: (B, 256).
        prompt_tokens: (B, P), any P from 0 up.
    """
    cache = model.make_cache()
    model(model.prefix(speaker, prompt_tokens), cache=cache)
    return cache


def generate(
    model: T3,
    text_ids: mx.array,
    speaker: mx.array,
    prompt_tokens: mx.array,
    *,
    key: mx.array,
    options: SamplingOptions | None = None,
    max_tokens: int = 1000,
    stop: bool = True,
    prefix_cache: KeyValueCache | None = None,
) -> Iterator[int]:
    """Yield the speech tokens of a text as they are drawn, without the stop token.

    Ids of 6561 and above other than stop are yielded too, and stay part of the sequence; they are
    no speech, and the caller leaves them out of what S3Gen gets. The key and value cache lives as
    long as the generator: closing it frees the memory.

    The reference's loop never tests its first draw for the stop token and may give one token more
    than its limit; this one tests every draw and keeps to ``max_tokens``.

    Args:
        text_ids: (T,), at least one.
        speaker: (256,), from the voice encoder.
        prompt_tokens: (P,), speech tokens of the reference clip.
        key: a random key; equal keys give equal tokens, whatever ``max_tokens`` is.
        options: how to draw; the defaults where absent.
        max_tokens: the most tokens to give; the end of the position table is a limit too.
        stop: False takes the stop token out of the draw, for a sequence of fixed length.
        prefix_cache: what :func:`prefill_prefix` gave for this speaker and prompt. It is continued
            in a copy, so that it serves any number of texts.

    Raises:
        OptionError: ``max_tokens`` is below 1, or the text leaves no room in the position table.
    """
    options = options or SamplingOptions()
    if max_tokens < 1:
        raise OptionError(f"max_tokens is {max_tokens}; give a number from 1 up")
    start = 1 + prompt_tokens.size + text_ids.size
    room = model.config.positions - start
    if room < 1:
        raise OptionError(
            f"voice and text take {start} of {model.config.positions} positions; shorten the text"
        )
    steps = _steps(model, text_ids, speaker, prompt_tokens, key, options, stop, prefix_cache)
    return _read(steps, min(max_tokens, room))


def _steps(
    model: T3,
    text_ids: mx.array,
    speaker: mx.array,
    prompt_tokens: mx.array,
    key: mx.array,
    options: SamplingOptions,
    stop: bool,
    prefix_cache: KeyValueCache | None,
) -> Iterator[mx.array]:
    """Endless ids (1,), each dispatched to the device and none of them read."""
    start = mx.array([START_SPEECH])
    parts = [model.embed_text(text_ids[None]), model.embed_speech(start[None])]
    if prefix_cache is None:
        cache = model.make_cache()
        parts.insert(0, model.prefix(speaker[None], prompt_tokens[None]))
    else:
        cache = prefix_cache.copy()
    inputs = mx.concatenate(parts, axis=1)
    nothing = mx.zeros((1, model.config.speech_vocabulary), mx.bool_)
    # The start token is penalised at the first draw and no more; from then on, what was spoken is.
    spoken, history = mark(nothing, start), nothing
    while True:
        logits = model.logits(model(inputs, cache=cache)[:, -1])
        if not stop:
            logits[:, STOP_SPEECH] = -mx.inf
        key, draw = mx.random.split(key)
        ids = sample(logits, spoken, options, draw[None])
        spoken = history = mark(history, ids)
        mx.async_eval(ids, spoken, key)
        yield ids
        inputs = model.embed_speech(ids[:, None])


def _read(steps: Iterator[mx.array], limit: int) -> Iterator[int]:
    """The ids of ``steps``, each read only when the step after it is under way."""
    ids = next(steps)
    for count in range(1, limit + 1):
        following = next(steps) if count < limit else ids
        token = int(ids)
        if token == STOP_SPEECH:
            return
        yield token
        ids = following


@dataclass(frozen=True, eq=False)
class Request:
    """One utterance to decode.

    id: names its tokens among those of others.
    text_ids: (T,), at least one.
    prefix: what :func:`prefill_prefix` gave for its voice; continued in a copy.
    key: its random key; equal keys give equal tokens, whoever else is decoded.
    """

    id: int
    text_ids: mx.array
    prefix: KeyValueCache
    key: mx.array
    max_tokens: int


class Decoder:
    """Utterances that are decoded together; they enter and leave at any step."""

    def __init__(self, model: T3, *, options: SamplingOptions, stop: bool = True):
        self._model, self._options, self._stop = model, options, stop
        self._rows: dict[int, Iterator[int]] = {}

    def add(self, request: Request) -> None:
        """Let an utterance enter."""
        nothing = mx.zeros((0,), mx.int32)
        self._rows[request.id] = generate(
            self._model,
            request.text_ids,
            nothing,
            nothing,
            key=request.key,
            options=self._options,
            max_tokens=request.max_tokens,
            stop=self._stop,
            prefix_cache=request.prefix,
        )

    def step(self) -> list[tuple[int, int | None]]:
        """The next token of every utterance; None, once, where one has ended."""
        drawn = [(id, next(row, None)) for id, row in self._rows.items()]
        for id, token in drawn:
            if token is None:
                del self._rows[id]
        return drawn

    def remove(self, id: int) -> None:
        """Give an utterance up."""
        row = self._rows.pop(id)
        row.close()  # pyright: ignore[reportAttributeAccessIssue]
