"""mlx-lm's key-value caches of a Llama as one :class:`~.interface.Cache`.

Dimensions: B rows, H heads, T time, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from mlx_lm.models.cache import BatchKVCache, KVCache


class LlamaCache:
    """A cache per layer: ``KVCache`` for rows of one length, ``BatchKVCache`` for padded ones."""

    def __init__(self, layers: int):
        self.layers: list[KVCache | BatchKVCache] = [KVCache() for _ in range(layers)]

    @property
    def offset(self) -> int:
        """Positions held, padding included."""
        return self.layers[0].size()

    @property
    def arrays(self) -> list[mx.array]:
        """Every buffer, for the caller to evaluate."""
        return [x for layer in self.layers for x in (layer.keys, layer.values) if x is not None]

    def copy(self) -> LlamaCache:
        """An independent cache that shares the buffers until one of the two writes."""
        twin = LlamaCache(len(self.layers))
        for old, new in zip(self.layers, twin.layers, strict=True):
            assert isinstance(old, KVCache), "only a prefix is copied, and it has no padding"
            # Item assignment changes an array object; the copy needs objects of its own.
            if not old.empty():
                keys, values = _buffers(old)
                _fill(new, keys[...], values[...], old.offset)
        return twin

    def release_spare(self) -> None:
        """Free the room for positions to come, for a prefix that is only continued in copies."""
        for layer in self.layers:
            # A slice would keep the whole buffer alive.
            keys, values = (x[:, :, : layer.size()] for x in _buffers(layer))
            layer.keys, layer.values = mx.contiguous(keys), mx.contiguous(values)

    @classmethod
    def gather(cls, rows: Sequence[tuple[LlamaCache, int, int]]) -> LlamaCache:
        """One cache of rows from several caches, which are emptied.

        Args:
            rows: for each a cache, its index there, and how many of the last positions are its own.
        """
        gathered = cls(0)
        for layers in zip(*(cache.layers for cache, _, _ in rows), strict=True):
            parts = [
                _row(layer, index, length)
                for layer, (_, index, length) in zip(layers, rows, strict=True)
            ]
            layer = _batch(parts)
            gathered.layers.append(layer)
            # Layer by layer, so that only one layer is in memory twice.
            mx.async_eval(_buffers(layer))
            for old in layers:
                old.keys = old.values = None
        return gathered


def _row(layer: KVCache | BatchKVCache, index: int, length: int) -> KVCache:
    """The last ``length`` positions of a row."""
    row, end = KVCache(), layer.size()
    at = (slice(index, index + 1), slice(None), slice(end - length, end))
    keys, values = _buffers(layer)
    _fill(row, keys[at], values[at], length)
    return row


def _batch(rows: Sequence[KVCache]) -> KVCache | BatchKVCache:
    """Rows of one cache each, padded on the left where their lengths differ."""
    if len({row.offset for row in rows}) > 1:
        return BatchKVCache.merge(rows)
    keys, values = zip(*map(_buffers, rows), strict=True)
    batch = KVCache()
    _fill(batch, mx.concatenate(list(keys)), mx.concatenate(list(values)), rows[0].offset)
    return batch


def _fill(cache: KVCache | BatchKVCache, keys: mx.array, values: mx.array, length: int) -> None:
    # ``state`` has other parts in other versions of mlx-lm.
    cache.keys, cache.values, cache.offset = keys, values, length


def _buffers(layer: KVCache | BatchKVCache) -> tuple[mx.array, mx.array]:
    """Keys and values, each (B, H, capacity, D), of a cache that is not empty."""
    assert layer.keys is not None and layer.values is not None
    return layer.keys, layer.values
