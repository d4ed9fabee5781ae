"""Keys and values of the positions that the transformer has processed.

Dimensions: B batch, H heads, T time, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

GROWTH = 256
"""Buffers grow by a multiple of this many positions."""
WHOLE = 8
"""Buffers end at a multiple of so many positions: kernels read that many at a time."""


class LayerCache:
    """Keys and values of one layer, each (B, H, capacity, D) of which ``offset`` are in use.

    Time comes before head width: a slice of the first T positions is then one matrix per head that
    a BLAS takes without a copy, for q @ k.T as for p @ v. With any other order MLX's CPU backend
    copies the whole cache at each step. New positions are written in place unless another cache
    shares the buffer.
    """

    def __init__(self) -> None:
        self.offset = 0
        self._keys: mx.array | None = None
        self._values: mx.array | None = None
        self._shared = False  # whether another cache may hold these very buffers
        self._places: tuple[int, int] | None = None  # the buffers' addresses, where they are known

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append (B, H, T, D) of each; returns all in use, (B, H, offset + T, D)."""
        start, self.offset = self.offset, self.offset + keys.shape[2]
        self._places = None
        self._keys = _write(self._keys, keys, start)
        self._values = _write(self._values, values, start)
        return self._keys[:, :, : self.offset], self._values[:, :, : self.offset]

    def append_in_place(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Append room of shape ``rows``, (B, H, T, D); returns all in use, (B, H, offset + T, D).

        The caller fills in the last T positions; the arrays are views of this cache's own.
        """
        batch, heads, time, width = rows
        start, self.offset = self.offset, self.offset + time
        if self._keys is None or self._shared or self.offset > self._keys.shape[2]:
            shape = (batch, heads, self.offset + -self.offset % GROWTH, width)
            self._places = None
            self._keys = _grown(self._keys, start, shape)
            self._values = _grown(self._values, start, shape)
            self._shared = False
        keys, values = np.asarray(self._keys), np.asarray(self._values)
        return keys[:, :, : self.offset], values[:, :, : self.offset]

    def row_in_place(self, batch: int, heads: int, width: int) -> tuple[int, int]:
        """Append room for one position; the addresses of keys and values (B, H, capacity, D)."""
        buffer = self._keys
        if self._places is None or self._shared or buffer is None or self.offset >= self.capacity:
            self.append_in_place((batch, heads, 1, width))
            self._places = self.places
        else:
            self.offset += 1
        return self._places

    @property
    def shared(self) -> bool:
        """Whether another cache may hold these very buffers."""
        return self._shared

    @property
    def batch(self) -> int:
        """The number of rows."""
        return 0 if self._keys is None else self._keys.shape[0]

    @property
    def places(self) -> tuple[int, int]:
        """The addresses of keys and values."""
        assert self._keys is not None and self._values is not None
        held = np.asarray(self._keys), np.asarray(self._values)
        keys, values = (each.__array_interface__["data"][0] for each in held)
        return keys, values

    @property
    def capacity(self) -> int:
        """Positions that the buffers have room for."""
        return 0 if self._keys is None else self._keys.shape[2]

    def copy(self) -> LayerCache:
        """An independent cache that shares the buffers until one of the two writes."""
        twin = LayerCache()
        twin.offset = self.offset
        twin._shared = self._shared = True
        # Item assignment moves an array object to new contents; the twin needs objects of its own.
        twin._keys = None if self._keys is None else self._keys[...]
        twin._values = None if self._values is None else self._values[...]
        return twin

    def release_spare(self) -> None:
        """Free the room for positions to come."""
        if self._keys is not None and self._values is not None:
            # A slice would keep the whole buffer alive.
            self._places, end = None, self.offset + -self.offset % WHOLE
            self._keys = mx.contiguous(self._keys[:, :, :end])
            self._values = mx.contiguous(self._values[:, :, :end])


def _write(buffer: mx.array | None, rows: mx.array, start: int) -> mx.array:
    """``buffer`` with ``rows`` at ``start``, grown where they do not fit."""
    batch, heads, time, width = rows.shape
    if buffer is not None and start + time <= buffer.shape[2]:
        buffer[:, :, start : start + time] = rows
        return buffer
    parts = [] if buffer is None else [buffer[:, :, :start]]
    spare = mx.zeros((batch, heads, -(start + time) % GROWTH, width), rows.dtype)
    return mx.concatenate([*parts, rows, spare], axis=2)


def _grown(buffer: mx.array | None, count: int, shape: tuple[int, ...]) -> mx.array:
    """A new buffer of ``shape`` with the first ``count`` positions of ``buffer``, then zeros."""
    made = mx.zeros(shape)
    if buffer is not None:
        np.asarray(made)[:, :, :count] = np.asarray(buffer)[:, :, :count]
    return made


class KeyValueCache:
    """One :class:`LayerCache` per layer; all have the same offset.

    In compiled kernels the first positions of a row may lie in another cache, which many rows share
    and nobody writes: the prefix of a voice is then in memory once, and is read once for all rows.
    """

    def __init__(self, layers: int):
        self.own = [LayerCache() for _ in range(layers)]
        self.before: tuple[KeyValueCache, ...] = ()
        self._places: np.ndarray | None = None

    @property
    def layers(self) -> list[LayerCache]:
        """Keys and values of all positions."""
        assert not self.before, "only compiled kernels take rows that begin in another cache"
        return self.own

    @property
    def offset(self) -> int:
        """Positions held, padding included."""
        return self.own[0].offset + max((each.offset for each in self.before), default=0)

    def padding(self, lengths: Sequence[int]) -> list[int]:
        """How many of the own positions come before those of each row.

        Args:
            lengths: positions of each row, those in other caches included.
        """
        before = [each.offset for each in self.before] or [0] * len(lengths)
        return [
            self.own[0].offset + first - length
            for length, first in zip(lengths, before, strict=True)
        ]

    def continue_shared(self) -> None:
        """Let positions that another cache holds too stay there, and append to a new buffer."""
        if self.before or not self.own[0].shared or self.own[0].batch != 1:
            return
        first = KeyValueCache(0)
        first.own, self.before, self._places = self.own, (first,), None
        self.own = [LayerCache() for _ in self.own]

    def places_before(self, batch: int) -> np.ndarray:
        """(layers, B, 2), addresses of the keys and values before the own ones; 0 for none."""
        if self._places is None or self._places.shape[1] != batch:
            self._places = np.zeros((len(self.own), batch, 2), np.int64)
            for row, each in enumerate(self.before):
                self._places[:, row] = [layer.places for layer in each.own]
        return self._places

    def copy(self) -> KeyValueCache:
        """An independent cache that shares the buffers until one of the two writes."""
        twin = KeyValueCache(0)
        twin.own = [layer.copy() for layer in self.own]
        twin.before = self.before
        return twin

    def release_spare(self) -> None:
        """Free the room for positions to come, for a prefix that is only continued in copies."""
        for layer in self.own:
            layer.release_spare()

    @property
    def arrays(self) -> list[mx.array]:
        """Every buffer, for the caller to evaluate."""
        own = [
            array
            for layer in self.own
            for array in (layer._keys, layer._values)
            if array is not None
        ]
        return [*own, *(array for each in self.before for array in each.arrays)]

    @classmethod
    def gather(cls, rows: Sequence[tuple[KeyValueCache, int, int]]) -> KeyValueCache:
        """One cache of rows from several caches, which are emptied.

        Rows end at the same position; shorter ones start with zeros, which a mask must hide.

        Args:
            rows: for each a cache, its index there, and how many of the last positions are its own.
        """
        batch = cls(0)
        batch.before = tuple(cache.before[index] for cache, index, _ in rows if cache.before)
        assert len(batch.before) in (0, len(rows)), "all rows begin in another cache, or none"
        before = [each.offset for each in batch.before] or [0] * len(rows)
        lengths = [length - first for (_, _, length), first in zip(rows, before, strict=True)]
        longest = max(lengths)
        for layers in zip(*(cache.own for cache, _, _ in rows), strict=True):
            layer = LayerCache()
            layer.offset = longest
            parts = [(old, index) for old, (_, index, _) in zip(layers, rows, strict=True)]
            layer._keys = _aligned([(x._keys, x.offset, i) for x, i in parts], lengths)
            layer._values = _aligned([(x._values, x.offset, i) for x, i in parts], lengths)
            batch.own.append(layer)
            # Layer by layer, so that only one layer is in memory twice.
            mx.async_eval(layer._keys, layer._values)
            for old, _ in parts:
                old._keys = old._values = old._places = None
        return batch


def _aligned(parts: Sequence[tuple[mx.array | None, int, int]], lengths: Sequence[int]) -> mx.array:
    """The last ``lengths`` positions of rows (buffer, end, index), (B, H, capacity, D)."""
    longest = max(lengths)
    first = parts[0][0]
    assert first is not None
    _, heads, _, width = first.shape
    room = longest + 1 + -(longest + 1) % GROWTH
    made = mx.zeros((len(parts), heads, room, width), first.dtype)
    for row, ((buffer, end, index), length) in enumerate(zip(parts, lengths, strict=True)):
        assert buffer is not None
        made[row, :, longest - length : longest] = buffer[index, :, end - length : end]
    return made
