"""The next speech ids of utterances that take their steps together, and what they depend on.

Dimensions: B utterances, R cache rows per utterance, V speech ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import mlx.core as mx
import numpy as np
from typing_extensions import Self

from .. import ops
from ..config import START_SPEECH
from ..options import SamplingOptions
from .guidance import guide
from .interface import T3, SpeechRows
from .sampling import add_to_history, sample
from .sampling_numpy import HOST, Noise, choose

NOT_FINITE = -1
"""The id that the host reads where the logits are not finite."""
Read: TypeAlias = Callable[[], list[int]]
"""Gives what was chosen, an id for each utterance, once it is there."""


@dataclass(frozen=True, eq=False)
class Chooser:
    """How ids are chosen from logits.

    never: ids that are not sampled.
    """

    model: T3
    rows_each: int
    never: list[int]

    def begin(self, key: mx.array, *, at_once: bool) -> Choices:
        """The choices of one utterance with this random key, before the first.

        Args:
            at_once: logits are in memory when they are given, so that NumPy chooses.
        """
        vocabulary = self.model.speech_vocabulary
        if at_once and all(each in HOST for each in self.model.filters):
            begun = _Utterance(START_SPEECH, Noise(key, vocabulary), np.zeros(vocabulary, bool))
            return HostChoices(self, self.model.speech_rows(), [begun])
        mask = mx.zeros((vocabulary,), mx.bool_)
        if self.never:
            mask[mx.array(self.never)] = True
        nothing = mx.zeros((1, vocabulary), mx.bool_)
        start = mx.array([START_SPEECH])
        never = mask if self.never else None
        return DeviceChoices(self, never, start, key[None], nothing)


class Choices(Protocol):
    """What was last chosen for some utterances, and what the next choices depend on."""

    def embeddings(self, positions: Sequence[int]) -> mx.array:
        """(B, 1, C) of the last ids; ``positions`` (B,) count what was sampled."""
        ...

    def choose(self, logits: mx.array, options: Sequence[SamplingOptions], *, first: bool) -> Read:
        """Choose the next ids.

        Args:
            logits: (B * R, V), float32.
            options: (B,), how each utterance's are sampled.
            first: the start token is in the history of the first choice only.
        """
        ...

    @classmethod
    def joined(cls, parts: Sequence[tuple[Self, int]]) -> Self:
        """Utterances of several, which are used up: for each its choices and its index there."""
        ...


@dataclass(eq=False)
class DeviceChoices:
    """:class:`Choices` on the device, dispatched and not waited for.

    keys: (B, 2), for the choices to come. history: (B, V), true for what was sampled.
    """

    chooser: Chooser
    never: mx.array | None
    ids: mx.array
    keys: mx.array
    history: mx.array

    def embeddings(self, positions: Sequence[int]) -> mx.array:
        model = self.chooser.model
        return model.embed_speech(self.ids[:, None], mx.array(list(positions))[:, None])

    def choose(self, logits: mx.array, options: Sequence[SamplingOptions], *, first: bool) -> Read:
        self.keys, keys = _split(self.keys)
        history = add_to_history(self.history, self.ids) if first else self.history
        self.ids = self._ids(options, logits, history, keys)
        self.history, read = _settled(self.history, self.ids, logits)
        mx.async_eval(self.ids, self.history, self.keys, read)
        return lambda: cast(list[int], read.tolist())

    def _ids(
        self,
        options: Sequence[SamplingOptions],
        logits: mx.array,
        history: mx.array,
        keys: mx.array,
    ) -> mx.array:
        """One id for each utterance (B,), sampled with its own options."""
        groups: dict[SamplingOptions, list[int]] = {}
        for index, each in enumerate(options):
            groups.setdefault(each, []).append(index)
        if len(groups) == 1:
            return self._ids_of_group(logits, history, options[0], keys)
        logits = logits.reshape(len(options), self.chooser.rows_each, -1)
        sampled = [
            self._ids_of_group(logits[some].flatten(0, 1), history[some], each, keys[some])
            for each, some in ((each, mx.array(some)) for each, some in groups.items())
        ]
        order = [index for some in groups.values() for index in some]
        return mx.concatenate(sampled)[mx.argsort(mx.array(order))]

    def _ids_of_group(
        self, logits: mx.array, history: mx.array, options: SamplingOptions, keys: mx.array
    ) -> mx.array:
        if self.chooser.rows_each > 1:
            logits = guide(logits, options.cfg_weight)
        if self.never is not None:
            logits = mx.where(self.never, -mx.inf, logits)
        return sample(logits, history, options, self.chooser.model.filters, keys)

    @classmethod
    def joined(cls, parts: Sequence[tuple[Self, int]]) -> Self:
        def joined(name: str) -> mx.array:
            return mx.concatenate([getattr(part, name)[i : i + 1] for part, i in parts])

        first = parts[0][0]
        return cls(first.chooser, first.never, *map(joined, ("ids", "keys", "history")))


_split = ops.fused()(mx.vmap(lambda key: tuple(mx.random.split(key))))


@ops.fused()
def _settled(history: mx.array, ids: mx.array, logits: mx.array) -> tuple[mx.array, mx.array]:
    """The history with the ``ids`` (B,), and what the host reads of them (B,)."""
    # A sum is not finite if an element is not.
    finite = mx.isfinite(mx.sum(logits, axis=-1)).reshape(len(ids), -1).all(axis=-1)
    return add_to_history(history, ids), mx.where(finite, ids.astype(mx.int32), NOT_FINITE)


@dataclass(eq=False)
class _Utterance:
    """What the choices of one utterance depend on; ``history`` (V,)."""

    id: int
    noise: Noise
    history: np.ndarray


@dataclass(eq=False)
class HostChoices:
    """:class:`Choices` in NumPy, made when :meth:`choose` returns: the ids of the device's."""

    chooser: Chooser
    rows: SpeechRows
    utterances: list[_Utterance]

    def embeddings(self, positions: Sequence[int]) -> mx.array:
        ids = np.array([each.id for each in self.utterances])
        return mx.array(self.rows(ids, np.array(positions))[:, None])

    def choose(self, logits: mx.array, options: Sequence[SamplingOptions], *, first: bool) -> Read:
        rows = np.asarray(logits).reshape(len(options), self.chooser.rows_each, -1)
        read = list(map(self._chosen, self.utterances, rows, options, [first] * len(options)))
        return lambda: read

    def _chosen(
        self, utterance: _Utterance, logits: np.ndarray, options: SamplingOptions, first: bool
    ) -> int:
        if not np.isfinite(logits).all():
            return NOT_FINITE
        scores = guide(logits, options.cfg_weight)[0] if len(logits) > 1 else logits[0]
        if self.chooser.never:
            scores = scores.copy()
            scores[self.chooser.never] = -np.inf
        history = utterance.history
        if first:
            history = history.copy()
            history[START_SPEECH] = True
        filters = self.chooser.model.filters
        utterance.id = choose(scores, history, options, filters, utterance.noise)
        utterance.history[utterance.id] = True
        return utterance.id

    @classmethod
    def joined(cls, parts: Sequence[tuple[Self, int]]) -> Self:
        first = parts[0][0]
        return cls(first.chooser, first.rows, [part.utterances[index] for part, index in parts])
