"""T3's loop: one speech token after another; a GPU is one step ahead of the host.

Dimensions: B utterances, R cache rows per utterance, T time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from ..config import STOP_SPEECH
from ..errors import NotFiniteError, OptionError
from ..options import SamplingOptions
from .choices import NOT_FINITE, Choices, Chooser, Read
from .interface import T3, AtOnce, Cache


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
    """Utterances that take their steps together, and what was last chosen for them.

    cache: B * R rows, those of an utterance side by side.
    fresh: the first tokens are chosen, and no step has told of them.
    """

    rows: list[_Row]
    cache: Cache
    choices: Choices
    fresh: bool = True


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
        never = [*model.invalid_ids, *([] if stop else [STOP_SPEECH])]
        self._chooser = Chooser(model, self._rows_each, never)
        self._at_once = isinstance(self._forward, AtOnce)
        self._rows: dict[int, _Row] = {}
        self._batches: list[_Batch] = []
        self._sampled: list[tuple[list[_Row], Read]] = []  # dispatched and not read

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
        held = request.prefix.offset
        cache = _copies(request.prefix, self._rows_each)
        embeddings = self._model.embed_input(request.text_ids, self._rows_each)
        row = _Row(
            request.id,
            held + embeddings.shape[1],
            min(request.max_tokens, room),
            options,
        )
        choices = self._chooser.begin(request.key, at_once=self._at_once)
        batch = _Batch([row], cache, choices)
        logits = self._forward(embeddings, batch.cache, [held] * self._rows_each)
        self._sample(batch, logits, first=True)
        self._rows[request.id] = row
        self._batches.append(batch)

    def step(self) -> list[tuple[int, int | None]]:
        """The next token of every utterance; None, once, where one has ended.

        On a GPU the next step is dispatched before a token is read. For an utterance that turns out
        to have ended, one token too many has then been sampled, which is discarded.

        Raises:
            NotFiniteError: the logits of an utterance are not finite.
        """
        found: list[tuple[int, int | None]] = []
        found += [(row.id, None) for row in self._rows.values() if row.read == row.limit]
        if self._at_once:
            # What is chosen already is told now, and not when the next step is computed too.
            self._advance_all([batch for batch in self._batches if not batch.fresh])
            sampled, self._sampled = self._sampled, []
        else:
            sampled, self._sampled = self._sampled, []
            self._advance_all(self._batches)
        for batch in self._batches:
            batch.fresh = False
        for rows, read in sampled:
            for row, token in zip(rows, read(), strict=True):
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

    def _advance_all(self, batches: Sequence[_Batch]) -> None:
        """One more token for all utterances of ``batches`` that take another step, in one batch."""
        others = [batch for batch in self._batches if batch not in batches]
        going = [
            (batch, index) for batch in batches for index, row in enumerate(batch.rows) if row.going
        ]
        joined: list[_Batch] = []
        if going:
            whole = len(batches) == 1 and len(going) == len(batches[0].rows)
            joined = [batches[0] if whole else _joined(going, self._rows_each)]
        self._batches = joined + others
        for batch in joined:
            self._advance(batch)

    def _advance(self, batch: _Batch) -> None:
        """Sample one more token for each utterance, from the last ones."""
        x = batch.choices.embeddings([row.sampled for row in batch.rows])
        if self._rows_each > 1:
            x = mx.repeat(x, self._rows_each, axis=0)
        lengths = [row.length for row in batch.rows for _ in range(self._rows_each)]
        logits = self._forward(x, batch.cache, lengths)
        for row in batch.rows:
            row.length += 1
        self._sample(batch, logits, first=False)

    def _sample(self, batch: _Batch, logits: mx.array, *, first: bool) -> None:
        options = [row.options for row in batch.rows]
        read = batch.choices.choose(logits, options, first=first)
        for row in batch.rows:
            row.sampled += 1
        self._sampled.append((batch.rows, read))


def _copies(prefix: Cache, rows: int) -> Cache:
    """A cache of ``rows`` rows, each a copy of the one row of ``prefix``."""
    if rows == 1:
        return prefix.copy()
    return prefix.gather([(prefix.copy(), 0, prefix.offset) for _ in range(rows)])


def _joined(going: Sequence[tuple[_Batch, int]], rows_each: int) -> _Batch:
    """One batch of utterances from several batches, which are used up."""
    if len(going) == len(going[0][0].rows) == 1:
        return going[0][0]
    rows = [
        (batch.cache, index * rows_each + row, batch.rows[index].length)
        for batch, index in going
        for row in range(rows_each)
    ]
    first = going[0][0]
    return _Batch(
        [batch.rows[index] for batch, index in going],
        first.cache.gather(rows),
        first.choices.joined([(batch.choices, index) for batch, index in going]),
    )
