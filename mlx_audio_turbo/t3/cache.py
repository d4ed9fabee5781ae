"""Keys and values of the positions that the transformer has seen.

Dimensions: B batch, H heads, T time, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

BLOCK = 256
"""Buffers grow by whole blocks of this many positions."""


class LayerCache:
    """Keys and values of one layer, each (B, H, capacity, D) of which ``offset`` are in use.

    Time stands before head width, not after it: a slice of the first T positions is then a matrix
    per head that a BLAS takes as it lies, for q @ k.T as for p @ v. Every other order makes MLX's
    CPU backend copy the whole cache at each step (16 heads of 64 at 700 positions: 0.4 ms here,
    5.6 ms for (B, T, H, D)). New rows are written in place as long as nobody shares the buffer.
    """

    def __init__(self) -> None:
        self.offset = 0
        self._keys: mx.array | None = None
        self._values: mx.array | None = None
        self._shared = False  # whether another cache may hold these very buffers

    def update(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append (B, H, T, D) of each; gives all that is in use, (B, H, offset + T, D)."""
        start, self.offset = self.offset, self.offset + keys.shape[2]
        self._keys = _write(self._keys, keys, start)
        self._values = _write(self._values, values, start)
        return self._keys[:, :, : self.offset], self._values[:, :, : self.offset]

    def append_in_place(self, rows: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Make room for rows of this shape, (B, H, T, D); gives all in use, (B, H, offset + T, D).

        The last T are the caller's to fill in: what is written there is written into this cache's
        own arrays.
        """
        batch, heads, time, width = rows
        start, self.offset = self.offset, self.offset + time
        if self._keys is None or self._shared or self.offset > self._keys.shape[2]:
            shape = (batch, heads, self.offset + -self.offset % BLOCK, width)
            self._keys = _moved(self._keys, start, shape)
            self._values = _moved(self._values, start, shape)
            self._shared = False
        keys, values = np.asarray(self._keys), np.asarray(self._values)
        return keys[:, :, : self.offset], values[:, :, : self.offset]

    def copy(self) -> LayerCache:
        """An independent cache that shares the buffers until one of the two writes."""
        twin = LayerCache()
        twin.offset = self.offset
        twin._shared = self._shared = True
        # Item assignment moves an array object to new contents; the twin needs objects of its own.
        twin._keys = None if self._keys is None else self._keys[...]
        twin._values = None if self._values is None else self._values[...]
        return twin

    def trim(self) -> None:
        """Hold the positions in use and no spare ones."""
        if self._keys is not None and self._values is not None:
            # A slice would keep the whole buffer alive.
            self._keys = mx.contiguous(self._keys[:, :, : self.offset])
            self._values = mx.contiguous(self._values[:, :, : self.offset])


def _write(buffer: mx.array | None, rows: mx.array, start: int) -> mx.array:
    """``buffer`` with ``rows`` at ``start``, grown where they do not fit."""
    batch, heads, time, width = rows.shape
    if buffer is not None and start + time <= buffer.shape[2]:
        buffer[:, :, start : start + time] = rows
        return buffer
    parts = [] if buffer is None else [buffer[:, :, :start]]
    spare = mx.zeros((batch, heads, -(start + time) % BLOCK, width), rows.dtype)
    return mx.concatenate([*parts, rows, spare], axis=2)


def _moved(buffer: mx.array | None, count: int, shape: tuple[int, ...]) -> mx.array:
    """A new buffer of ``shape`` with the first ``count`` positions of ``buffer``, then zeros."""
    made = mx.zeros(shape)
    if buffer is not None:
        np.asarray(made)[:, :, :count] = np.asarray(buffer)[:, :, :count]
    return made


class KeyValueCache:
    """One :class:`LayerCache` per layer; all stand at the same offset."""

    def __init__(self, layers: int):
        self.layers = [LayerCache() for _ in range(layers)]

    @property
    def offset(self) -> int:
        """How many positions are held."""
        return self.layers[0].offset

    def copy(self) -> KeyValueCache:
        """An independent cache: a shared prefix is computed once and continued many times."""
        twin = KeyValueCache(0)
        twin.layers = [layer.copy() for layer in self.layers]
        return twin

    def trim(self) -> None:
        """Give back the spare room, for a prefix that waits to be continued in copies."""
        for layer in self.layers:
            layer.trim()

    @property
    def arrays(self) -> list[mx.array]:
        """Every buffer, for the caller to evaluate."""
        return [
            array
            for layer in self.layers
            for array in (layer._keys, layer._values)
            if array is not None
        ]


def gather(rows: Sequence[tuple[KeyValueCache, int, int]]) -> KeyValueCache:
    """One batch of rows from several caches, which are emptied.

    Rows end together; the shorter ones begin with zeros, which a mask has to hide.

    Args:
        rows: for each a cache, its index there, and how many of its last positions are its own.
    """
    lengths = [length for _, _, length in rows]
    longest = max(lengths)
    batch = KeyValueCache(0)
    for layers in zip(*(cache.layers for cache, _, _ in rows), strict=True):
        layer = LayerCache()
        layer.offset = longest
        parts = [(old, index) for old, (_, index, _) in zip(layers, rows, strict=True)]
        layer._keys = _aligned([(x._keys, x.offset, i) for x, i in parts], lengths)
        layer._values = _aligned([(x._values, x.offset, i) for x, i in parts], lengths)
        batch.layers.append(layer)
        # One layer after another, so that only one is in memory twice.
        mx.async_eval(layer._keys, layer._values)
        for old, _ in parts:
            old._keys = old._values = None
    return batch


def _aligned(parts: Sequence[tuple[mx.array | None, int, int]], lengths: Sequence[int]) -> mx.array:
    """The last ``lengths`` positions of rows (buffer, end, index), (B, H, capacity, D)."""
    longest = max(lengths)
    first = parts[0][0]
    assert first is not None
    _, heads, _, width = first.shape
    room = longest + 1 + -(longest + 1) % BLOCK
    made = mx.zeros((len(parts), heads, room, width), first.dtype)
    for row, ((buffer, end, index), length) in enumerate(zip(parts, lengths, strict=True)):
        assert buffer is not None
        made[row, :, longest - length : longest] = buffer[index, :, end - length : end]
    return made
