"""GPT-2 on a CPU by compiled kernels, which read the weights as they are stored.

Dimensions: B batch, T time, C width, V speech ids.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import Quantization, T3Config
from ..ops import blas, compiled
from ..ops.compiled import gpt2 as kernels
from ..ops.compiled.formats import SPAN, Format
from ..ops.compiled.matrices import Matrix, floats
from .cache import KeyValueCache
from .gpt2 import GPT2, Block
from .gpt2_numpy import BlockWeights, LayerNorm, make_layer
from .lanes import Lanes
from .transformer_numpy import Linear, Step, parallel, pool, split, threads


class CompiledForward:
    """A :data:`~.interface.Forward` that runs at once, on the model's own weights.

    A step of one position is one call of a kernel in each thread (``ops/compiled/gpt2.py``). Where
    there are more positions, the weights of one layer at a time are expanded to float32, and the
    BLAS multiplies them.
    """

    def __init__(self, transformer: GPT2, head: nn.Linear, config: T3Config):
        self._config = config
        self._positions = transformer.wpe
        self._layers = [_Stored(block) for block in transformer.h]
        self._norm = LayerNorm(transformer.ln_f)
        self._head, self._bias = matrix(head), floats(head.bias)
        self._lanes = Lanes(threads(config.heads))
        self._eps = np.float32(transformer.ln_f.eps)
        self._counters = np.zeros(kernels.COUNTERS, np.int64)
        self._base = 0
        self._table = np.array([layer.addresses() for layer in self._layers], np.int64)
        norm = (self._norm.weight.ctypes.data, self._norm.bias.ctypes.data)
        self._head_places = np.array([*norm, *self._head.addresses], np.int64)
        self._buffers: _Buffers | None = None
        kernels.compile_step(self._layers[0].format, self._head.format)

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        padding = [cache.offset - length for length in lengths]
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        table = self._positions(mx.array(positions)).astype(mx.float32)
        y = np.asarray(x.astype(mx.float32) + table)
        if x.shape[1] == 1:
            return mx.array(self._step(y[:, 0], cache, padding))
        return mx.array(self._prefill(y, cache, padding))

    def _step(self, x: np.ndarray, cache: KeyValueCache, padding: Sequence[int]) -> np.ndarray:
        """Logits (B, V) of one position (B, C)."""
        config, batch = self._config, len(x)
        for row, layer in zip(self._table, cache.layers, strict=True):
            row[kernels.KEYS :] = layer.row_in_place(batch, config.heads, config.head_dim)
        room = cache.layers[0].capacity
        buffers = self._buffers
        if buffers is None or buffers.batch != batch or buffers.sizes[-1] != room:
            units = self._layers[0].fc.outputs
            sizes = (config.width, config.heads, config.head_dim, units, self._head.outputs)
            self._buffers = buffers = _Buffers((*sizes, batch, 0, room), self._lanes.most)
        # Threads that come late hold the arrays of their own step.
        sizes = buffers.sizes.copy()
        sizes[-2] = cache.offset
        buffers.arrays[0][:batch] = x
        pieces = kernels.piece_count(len(self._layers), sizes)
        arguments: list[Any] = [self._layers[0].format, self._head.format, self._counters]
        arguments += [self._base, self._table, self._head_places, sizes]
        arguments += [np.array(padding, np.int64), self._eps, *buffers.arrays]
        lanes, started = self._lanes.count(), time.perf_counter()
        for work in buffers.works[1:lanes]:
            pool().submit(kernels.step, *arguments, work)
        kernels.step(*arguments, buffers.works[0])
        self._base += pieces
        kernels.wait(self._counters, self._base)
        self._lanes.took(lanes, (time.perf_counter() - started) / batch)
        return buffers.arrays[-1][:batch] + self._bias

    def _prefill(self, x: np.ndarray, cache: KeyValueCache, padding: Sequence[int]) -> np.ndarray:
        """Logits (B, V) of the last of several positions (B, T, C)."""
        scratch: dict[str, np.ndarray] = {}
        step = Step(padding)
        with blas.one_thread():
            for stored, held in zip(self._layers, cache.layers, strict=True):
                x = make_layer(stored.expanded(scratch), self._config)(x, held, step)
            last = self._norm(x[:, -1])
            parts = split(self._head.outputs, threads(self._config.heads))
            tasks = [partial(_product, self._head, some, last) for some in parts]
            return np.concatenate(parallel(tasks), axis=-1) + self._bias


def _product(head: Matrix, some: slice, x: np.ndarray) -> np.ndarray:
    return Linear(head.floats(some))(x)


class _Stored:
    """A :class:`~.gpt2.Block` as it lies in memory."""

    NAMES = ("qkv", "out", "fc", "proj")

    def __init__(self, block: Block):
        layers = (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
        self._norms = LayerNorm(block.ln_1), LayerNorm(block.ln_2)
        self.qkv, self.out, self.fc, self.proj = map(matrix, layers)
        self._biases = [floats(layer.bias) for layer in layers]
        self.format = self.qkv.format

    def addresses(self) -> list[int]:
        """A row of the kernel's table; keys and values are filled in for each step."""
        qkv, out, fc, proj = (
            [*getattr(self, name).addresses, bias.ctypes.data]
            for name, bias in zip(self.NAMES, self._biases, strict=True)
        )
        norm1, norm2 = ([norm.weight.ctypes.data, norm.bias.ctypes.data] for norm in self._norms)
        return [*norm1, *qkv, *out, *norm2, *fc, *proj, 0, 0]

    def expanded(self, scratch: dict[str, np.ndarray]) -> BlockWeights:
        """Its weights in float32, which lie in ``scratch`` where they are not stored so."""
        found = {}
        for name, bias in zip(self.NAMES, self._biases, strict=True):
            stored: Matrix = getattr(self, name)
            if stored.format.floats == "float32" and not stored.format.bits:
                found[name] = (stored.weights, bias)
                continue
            if name not in scratch:
                scratch[name] = np.empty((stored.outputs, stored.inputs), np.float32)
            y = scratch[name]
            parts = split(stored.outputs, blas.cores())
            parallel([partial(stored.floats, some, y[some]) for some in parts])
            found[name] = (y, bias)
        return BlockWeights(self._norms, **found)


class _Buffers:
    """What a step of so many rows needs: the kernel's arrays, and room for each thread."""

    def __init__(self, sizes: tuple[int, ...], lanes: int):
        self.sizes = np.array(sizes, np.int64)
        width, _, _, units, vocabulary, self.batch, _, _ = sizes
        kept = 1 if self.batch == 1 else -(-self.batch // 4) * 4
        shapes = (width, width, width, units, vocabulary)
        self.arrays = [np.zeros((kept, size), np.float32) for size in shapes]
        self.works = [np.zeros(kernels.work_floats(self.sizes), np.float32) for _ in range(lanes)]


def matrix(layer: nn.Linear) -> Matrix:
    """The weights of a layer that :func:`takes` has looked at."""
    found = Matrix.of(layer)
    assert found is not None
    return found


def start_compiling(quantization: Quantization | None, floats: str) -> None:
    """Compile in the background what a folder of this kind needs."""
    head = Format(0, 0, floats)
    blocks = head
    if quantization is not None:
        blocks = Format(quantization.bits, quantization.group_size, floats)
    compiled.in_background(lambda: kernels.compile_step(blocks, head), name="T3")


def fits(config: T3Config) -> bool:
    """Whether the kernels take a model of these sizes."""
    # Four vectors of a head's values are summed together; a span of a product has 64 inputs.
    return config.head_dim % (4 * kernels.WIDTH) == 0 and config.width % SPAN == 0


def takes(transformer: GPT2, head: nn.Linear, config: T3Config) -> bool:
    """Whether they take this model: one format in all blocks, and norms in float32."""
    layers: list[Any] = []
    for block in transformer.h:
        layers += [block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj]
    found = [Matrix.of(layer) for layer in layers]
    formats = {None if each is None else each.format for each in found}
    return (
        len(formats) == 1
        and None not in formats
        and Matrix.of(head) is not None
        and fits(config)
        and transformer.ln_f.weight.dtype == mx.float32
    )
