"""T3's loop: one speech token after another, with the device one step ahead of the host.

Dimensions: B utterances, R cache rows per utterance, T time, C width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from .. import ops
from ..config import START_SPEECH, STOP_SPEECH
from ..errors import NotFiniteError, OptionError
from ..options import SamplingOptions
from .guidance import guide
from .interface import T3, Cache
from .sampling import add_to_history, sample

NOT_FINITE = -1
"""The id that the host reads where the logits are not finite."""


@dataclass(frozen=True, eq=False)
class Request:
    """One utterance to decode.

    id: labels its tokens among those of other utterances.
    text_ids: (T,), at least one.
    prefix: the cache of its voice, from :func:`~.interface.prefill_prefix`; continued in a copy.
    key: its random key; equal keys give equal tokens, whatever else is decoded.
    max_tokens: limit; 25 tokens are one second.
    options: how its tokens are sampled; None for the decoder's own options.
    """

    id: int
    text_ids: mx.array
    prefix: Cache
    key: mx.array
    max_tokens: int = 1000
    options: SamplingOptions | None = None


@dataclass(eq=False)
class _Row:
    """The state of one utterance.

    length: positions that each of its cache rows holds.
    limit: tokens to sample in all.
    sampled, read: how many of its tokens are dispatched, and how many the host has read.
    """

    id: int
    length: int
    limit: int
    options: SamplingOptions
    sampled: int = 0
    read: int = 0
    removed: bool = False

    @property
    def going(self) -> bool:
        """Whether it takes another step."""
        return self.sampled < self.limit and not self.removed


@dataclass(eq=False)
class _Batch:
    """Utterances that take their steps together, and what was last sampled for them.

    cache: B * R rows, those of an utterance side by side.
    ids: (B,). keys: (B, 2), for the samples to come. history: (B, V), true for what was sampled.
    """

    rows: list[_Row]
    cache: Cache
    ids: mx.array
    keys: mx.array
    history: mx.array


class Decoder:
    """Decodes utterances together; they enter and leave between any two steps.

    Each utterance gets the tokens that it would get alone: it has a random key, a history and
    positions of its own. Shorter ones are padded on the left, and the padding is masked.

    Every sample is tested for the stop token and ``max_tokens`` is exact; the reference never tests
    its first sample, and may exceed its limit by one token. Ids of 6561 and above that are sampled
    are returned too and stay part of the sequence; the caller leaves them out of what S3Gen gets.

    Args:
        options: how tokens are sampled where a request does not say. All requests take as many
            cache rows as these options.
        stop: False never samples the stop token, for a sequence of fixed length.
    """

    def __init__(self, model: T3, *, options: SamplingOptions | None = None, stop: bool = True):
        self._model, self._options = model, options or SamplingOptions()
        self._forward = model.make_forward()
        self._rows_each = model.rows(self._options)
        self._invalid = _mask([*model.invalid_ids, *([] if stop else [STOP_SPEECH])], model)
        self._rows: dict[int, _Row] = {}
        self._batches: list[_Batch] = []
        self._sampled: list[tuple[list[_Row], mx.array]] = []  # dispatched and not read

    def __len__(self) -> int:
        """How many utterances have not ended."""
        return len(self._rows)

    def add(self, request: Request) -> None:
        """Start an utterance: its text is dispatched when this returns.

        Raises:
            OptionError: ``max_tokens`` is below 1, or the text is too long for the model.
            ValueError: the id is in use, or the options take another number of cache rows.
        """
        options = request.options or self._options
        if self._model.rows(options) != self._rows_each:
            raise ValueError("guided and unguided requests need a decoder each")
        if request.max_tokens < 1:
            raise OptionError(f"max_tokens is {request.max_tokens}; give a number from 1 up")
        room = self._model.room(request.prefix.offset, request.text_ids)
        if request.id in self._rows:
            raise ValueError(f"two requests of id {request.id} at a time")
        start, held = mx.array([START_SPEECH]), request.prefix.offset
        cache = _copies(request.prefix, self._rows_each)
        embeddings = self._model.embed_input(request.text_ids, self._rows_each)
        row = _Row(
            request.id,
            held + embeddings.shape[1],
            min(request.max_tokens, room),
            options,
        )
        nothing = mx.zeros((1, self._model.speech_vocabulary), mx.bool_)
        batch = _Batch([row], cache, start, request.key[None], nothing)
        logits = self._forward(embeddings, batch.cache, [held] * self._rows_each)
        # The start token is in the history of the first sample only.
        self._sample(batch, logits, history=add_to_history(nothing, start))
        self._rows[request.id] = row
        self._batches.append(batch)

    def step(self) -> list[tuple[int, int | None]]:
        """The next token of every utterance; None, once, where one has ended.

        The next step is dispatched before a token is read. For an utterance that turns out to have
        ended, one token too many has then been sampled, which is discarded.

        Raises:
            NotFiniteError: the logits of an utterance are not finite.
        """
        found: list[tuple[int, int | None]] = []
        found += [(row.id, None) for row in self._rows.values() if row.read == row.limit]
        sampled, self._sampled = self._sampled, []
        self._regroup()
        for batch in self._batches:
            self._advance(batch)
        for rows, ids in sampled:
            for row, token in zip(rows, cast(list[int], ids.tolist()), strict=True):
                if not row.removed:
                    if token == NOT_FINITE:
                        raise NotFiniteError("T3")
                    row.read += 1
                    found.append((row.id, None if token == STOP_SPEECH else token))
        for id, token in found:
            if token is None:
                self.remove(id)
        return found

    def remove(self, id: int) -> None:
        """Stop an utterance.

        Raises:
            KeyError: there is none of this id, or it has ended.
        """
        self._rows.pop(id).removed = True
        if not self._rows:
            self.close()

    def close(self) -> None:
        """Stop all utterances and free their memory."""
        for batch in self._batches:
            for row in batch.rows:
                row.removed = True
        self._rows.clear()
        self._batches.clear()
        self._sampled.clear()

    def _regroup(self) -> None:
        """Join all utterances that take another step, and no others, in one batch."""
        going = [
            (batch, index)
            for batch in self._batches
            for index, row in enumerate(batch.rows)
            if row.going
        ]
        if not going:
            self._batches = []
        elif len(self._batches) > 1 or len(going) < len(self._batches[0].rows):
            self._batches = [_joined(going, self._rows_each)]

    def _advance(self, batch: _Batch) -> None:
        """Sample one more token for each utterance, from the last ones."""
        positions = mx.array([row.sampled for row in batch.rows])[:, None]
        x = self._model.embed_speech(batch.ids[:, None], positions)
        if self._rows_each > 1:
            x = mx.repeat(x, self._rows_each, axis=0)
        lengths = [row.length for row in batch.rows for _ in range(self._rows_each)]
        logits = self._forward(x, batch.cache, lengths)
        for row in batch.rows:
            row.length += 1
        self._sample(batch, logits, history=batch.history)

    def _sample(self, batch: _Batch, logits: mx.array, *, history: mx.array) -> None:
        batch.keys, keys = _split(batch.keys)
        batch.ids = self._ids(batch.rows, logits, history, keys)
        batch.history, read = _settled(batch.history, batch.ids, logits)
        mx.async_eval(batch.ids, batch.history, batch.keys, read)
        for row in batch.rows:
            row.sampled += 1
        self._sampled.append((batch.rows, read))

    def _ids(
        self, rows: Sequence[_Row], logits: mx.array, history: mx.array, keys: mx.array
    ) -> mx.array:
        """One id for each row (B,), sampled with the row's own options."""
        groups: dict[SamplingOptions, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.options, []).append(index)
        if len(groups) == 1:
            return self._ids_of_group(logits, history, rows[0].options, keys)
        logits = logits.reshape(len(rows), self._rows_each, -1)
        sampled = [
            self._ids_of_group(logits[some].flatten(0, 1), history[some], options, keys[some])
            for options, some in ((options, mx.array(some)) for options, some in groups.items())
        ]
        order = [index for some in groups.values() for index in some]
        return mx.concatenate(sampled)[mx.argsort(mx.array(order))]

    def _ids_of_group(
        self, logits: mx.array, history: mx.array, options: SamplingOptions, keys: mx.array
    ) -> mx.array:
        if self._rows_each > 1:
            logits = guide(logits, options.cfg_weight)
        if self._invalid is not None:
            logits = mx.where(self._invalid, -mx.inf, logits)
        return sample(logits, history, options, self._model.filters, keys)


_split = ops.fused()(mx.vmap(lambda key: tuple(mx.random.split(key))))


@ops.fused()
def _settled(history: mx.array, ids: mx.array, logits: mx.array) -> tuple[mx.array, mx.array]:
    """The history with the ``ids`` (B,), and what the host reads of them (B,)."""
    # A sum is not finite if an element is not.
    finite = mx.isfinite(mx.sum(logits, axis=-1)).reshape(len(ids), -1).all(axis=-1)
    return add_to_history(history, ids), mx.where(finite, ids.astype(mx.int32), NOT_FINITE)


def _mask(ids: Sequence[int], model: T3) -> mx.array | None:
    """(V,), true for the ``ids``; None without any."""
    if not ids:
        return None
    mask = mx.zeros((model.speech_vocabulary,), mx.bool_)
    mask[mx.array(list(ids))] = True
    return mask


def _copies(prefix: Cache, rows: int) -> Cache:
    """A cache of ``rows`` rows, each a copy of the one row of ``prefix``."""
    if rows == 1:
        return prefix.copy()
    return prefix.gather([(prefix.copy(), 0, prefix.offset) for _ in range(rows)])


def _joined(going: Sequence[tuple[_Batch, int]], rows_each: int) -> _Batch:
    """One batch of utterances from several batches, which are used up."""
    if len(going) == len(going[0][0].rows) == 1:
        return going[0][0]

    def joined(name: str) -> mx.array:
        return mx.concatenate([getattr(batch, name)[i : i + 1] for batch, i in going])

    rows = [
        (batch.cache, index * rows_each + row, batch.rows[index].length)
        for batch, index in going
        for row in range(rows_each)
    ]
    return _Batch(
        [batch.rows[index] for batch, index in going],
        going[0][0].cache.gather(rows),
        joined("ids"),
        joined("keys"),
        joined("history"),
    )
