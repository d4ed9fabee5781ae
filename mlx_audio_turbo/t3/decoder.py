"""T3's loop: one speech token after another, with the device always one step ahead of the host.

Dimensions: B batch, T time, P prompt tokens, C width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import mlx.core as mx

from ..config import START_SPEECH, STOP_SPEECH
from ..errors import OptionError
from ..options import SamplingOptions
from .cache import KeyValueCache, gather
from .forward import forward_of
from .sampling import mark, sample
from .turbo import T3


def prefill_prefix(model: T3, speaker: mx.array, prompt_tokens: mx.array) -> KeyValueCache:
    """The cache after a voice's part of the sequence, which every sentence of it shares.

    Args:
        speaker: (B, 256).
        prompt_tokens: (B, P), any P from 0 up.
    """
    cache, embeddings = model.make_cache(), model.prefix(speaker, prompt_tokens)
    forward_of(model)(embeddings, cache, [0] * len(embeddings))
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
    if prefix_cache is None:
        prefix_cache = prefill_prefix(model, speaker[None], prompt_tokens[None])
    request = Request(0, text_ids, prefix_cache, key, max_tokens)
    limit_of(model, request)  # errors belong to the call, not to the first token
    tokens = decode(model, [request], options=options, stop=stop)
    return (token for _, token in tokens if token is not None)


@dataclass(frozen=True, eq=False)
class Request:
    """One utterance to decode.

    id: names its tokens among those of others.
    text_ids: (T,), at least one.
    prefix: what :func:`prefill_prefix` gave for its voice, one row; continued in a copy.
    key: its random key; equal keys give equal tokens, whoever else is decoded.
    max_tokens: the most tokens to give.
    """

    id: int
    text_ids: mx.array
    prefix: KeyValueCache
    key: mx.array
    max_tokens: int = 1000


def limit_of(model: T3, request: Request) -> int:
    """How many tokens the request may get: its own limit, and the position table's.

    Raises:
        OptionError: not even one.
    """
    if request.max_tokens < 1:
        raise OptionError(f"max_tokens is {request.max_tokens}; give a number from 1 up")
    taken, positions = request.prefix.offset + request.text_ids.size, model.config.positions
    if taken >= positions:
        raise OptionError(f"voice and text take {taken} of {positions} positions; shorten the text")
    return min(request.max_tokens, positions - taken)


def decode(
    model: T3,
    requests: Iterable[Request],
    *,
    options: SamplingOptions | None = None,
    batch_size: int = 1,
    stop: bool = True,
) -> Iterator[tuple[int, int | None]]:
    """Decode up to ``batch_size`` requests together: (id, token) as they come, and (id, None) once.

    A request is taken from ``requests`` when a place is free. Closing the generator frees all.
    """
    decoder, waiting = Decoder(model, options=options, stop=stop), iter(requests)
    try:
        while True:
            for request in islice(waiting, batch_size - len(decoder)):
                decoder.add(request)
            if not len(decoder):
                return
            yield from decoder.step()
    finally:
        decoder.close()


@dataclass(eq=False)
class _Row:
    """One utterance on its way.

    length: positions that it holds in its batch's cache.
    undrawn, unread: how many of its tokens have still to be dispatched, and to be read.
    """

    id: int
    length: int
    undrawn: int
    unread: int
    gone: bool = False


@dataclass(eq=False)
class _Batch:
    """Rows that take their steps together, and what was last drawn for them.

    ids: (B,). keys: (B, 2), for the draws to come. history: (B, V), true for what was drawn.
    """

    rows: list[_Row]
    cache: KeyValueCache
    ids: mx.array
    keys: mx.array
    history: mx.array


class Decoder:
    """Utterances that are decoded together; they enter and leave between any two steps.

    Each gets what it would get alone: a random key, a history and positions of its own. Shorter
    ones are padded on the left, and nobody looks at the padding.
    """

    def __init__(self, model: T3, *, options: SamplingOptions | None = None, stop: bool = True):
        self._model, self._options, self._stop = model, options or SamplingOptions(), stop
        self._forward = forward_of(model)
        self._rows: dict[int, _Row] = {}
        self._batches: list[_Batch] = []
        self._drawn: list[tuple[list[_Row], mx.array]] = []  # dispatched, and not read

    def __len__(self) -> int:
        """How many utterances have not ended."""
        return len(self._rows)

    def add(self, request: Request) -> None:
        """Let an utterance enter: its text is under way when this returns.

        Raises:
            OptionError: ``max_tokens`` is below 1, or the text leaves no room to speak.
            ValueError: the id is in use.
        """
        limit = limit_of(self._model, request)
        if request.id in self._rows:
            raise ValueError(f"two requests of id {request.id} at a time")
        start = mx.array([START_SPEECH])
        text, begin = self._model.embed_text(request.text_ids), self._model.embed_speech(start)
        row = _Row(request.id, request.prefix.offset + text.shape[0] + 1, limit, limit)
        nothing = mx.zeros((1, self._model.config.speech_vocabulary), mx.bool_)
        batch = _Batch([row], request.prefix.copy(), start, request.key[None], nothing)
        embeddings = mx.concatenate([text, begin])[None]
        logits = self._forward(embeddings, batch.cache, [request.prefix.offset])
        # The start token is penalised at the first draw and no more; then, what was spoken is.
        self._draw(batch, logits, spoken=mark(nothing, start))
        self._rows[request.id] = row
        self._batches.append(batch)

    def step(self) -> list[tuple[int, int | None]]:
        """The next token of every utterance; None, once, where one has ended.

        The step after it is dispatched before a token is read. An utterance that turns out to have
        ended has then been drawn one token too many, which is thrown away.
        """
        found: list[tuple[int, int | None]] = []
        found += [(row.id, None) for row in self._rows.values() if not row.unread]
        drawn, self._drawn = self._drawn, []
        self._regroup()
        for batch in self._batches:
            self._advance(batch)
        for rows, ids in drawn:
            for row, token in zip(rows, cast(list[int], ids.tolist()), strict=True):
                if not row.gone:
                    row.unread -= 1
                    found.append((row.id, None if token == STOP_SPEECH else token))
        for id, token in found:
            if token is None:
                self.remove(id)
        return found

    def remove(self, id: int) -> None:
        """Give an utterance up.

        Raises:
            KeyError: there is none of this id, or it has ended.
        """
        self._rows.pop(id).gone = True
        if not self._rows:
            self.close()

    def close(self) -> None:
        """Give all up, and their memory back."""
        for batch in self._batches:
            for row in batch.rows:
                row.gone = True
        self._rows.clear()
        self._batches.clear()
        self._drawn.clear()

    def _regroup(self) -> None:
        """Bring all rows that go on, and no others, into one batch."""
        going = [
            (batch, index)
            for batch in self._batches
            for index, row in enumerate(batch.rows)
            if row.undrawn and not row.gone
        ]
        if not going:
            self._batches = []
        elif len(self._batches) > 1 or len(going) < len(self._batches[0].rows):
            self._batches = [_joined(going)]

    def _advance(self, batch: _Batch) -> None:
        """One more token for each row, from the last ones."""
        embeddings = self._model.embed_speech(batch.ids[:, None])
        logits = self._forward(embeddings, batch.cache, [row.length for row in batch.rows])
        for row in batch.rows:
            row.length += 1
        self._draw(batch, logits, spoken=batch.history)

    def _draw(self, batch: _Batch, logits: mx.array, *, spoken: mx.array) -> None:
        if not self._stop:
            logits[:, STOP_SPEECH] = -mx.inf
        batch.keys, draws = _split(batch.keys)
        batch.ids = sample(logits, spoken, self._options, draws)
        batch.history = mark(batch.history, batch.ids)
        mx.async_eval(batch.ids, batch.history, batch.keys)
        for row in batch.rows:
            row.undrawn -= 1
        self._drawn.append((batch.rows, batch.ids))


_split = mx.vmap(lambda key: tuple(mx.random.split(key)))


def _joined(rows: Sequence[tuple[_Batch, int]]) -> _Batch:
    """One batch of rows from several, which are used up."""
    if len(rows) == len(rows[0][0].rows) == 1:
        return rows[0][0]

    def joined(name: str) -> mx.array:
        return mx.concatenate([getattr(batch, name)[i : i + 1] for batch, i in rows])

    return _Batch(
        [batch.rows[index] for batch, index in rows],
        gather([(batch.cache, index, batch.rows[index].length) for batch, index in rows]),
        joined("ids"),
        joined("keys"),
        joined("history"),
    )
