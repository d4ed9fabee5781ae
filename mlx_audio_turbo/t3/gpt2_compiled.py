"""GPT-2 on a CPU by compiled kernels, which read the weights as they are stored.

Dimensions: B batch, T time, C width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import T3Config
from ..ops import blas
from ..ops.compiled.matrices import Matrix, floats
from .cache import KeyValueCache
from .gpt2 import GPT2, Block
from .gpt2_numpy import BlockWeights, LayerNorm, make_layer
from .transformer_compiled import (
    CompiledStep,
    Norm,
    StoredLayer,
    StoredLinear,
    expanded,
    matrix,
    one_format,
)
from .transformer_compiled import fits as sizes_fit
from .transformer_numpy import Linear, Step, parallel, split, threads


class CompiledForward:
    """A :data:`~.interface.Forward` that runs at once, on the model's own weights.

    A step of one position is one call of a kernel in each thread. Where there are more positions,
    the weights of one layer at a time are expanded to float32, and the BLAS multiplies them.
    """

    def __init__(self, transformer: GPT2, head: nn.Linear, config: T3Config):
        self._config = config
        self._positions = transformer.wpe
        self._layers = [_Stored(block) for block in transformer.h]
        self._norm = LayerNorm(transformer.ln_f)
        self._head, self._bias = matrix(head), floats(head.bias)
        self._step = CompiledStep(
            [layer.as_stored() for layer in self._layers],
            Norm(self._norm.weight, self._norm.bias),
            StoredLinear(self._head, self._bias),
            heads=config.heads,
            eps=transformer.ln_f.eps,
            lanes=threads(config.heads),
        )

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        padding = [cache.offset - length for length in lengths]
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        table = self._positions(mx.array(positions)).astype(mx.float32)
        y = np.asarray(x.astype(mx.float32) + table)
        if x.shape[1] == 1:
            return mx.array(self._step(y[:, 0], cache, padding))
        return mx.array(self._prefill(y, cache, padding))

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
        self._matrices: dict[str, Matrix] = dict(zip(self.NAMES, map(matrix, layers), strict=True))
        self._biases = {
            name: floats(layer.bias) for name, layer in zip(self.NAMES, layers, strict=True)
        }

    def as_stored(self) -> StoredLayer:
        """For the kernel."""
        qkv, bias = self._matrices["qkv"], self._biases["qkv"]
        width = qkv.outputs // 3
        thirds = [slice(i * width, (i + 1) * width) for i in range(3)]
        first, second = (Norm(norm.weight, norm.bias) for norm in self._norms)
        return StoredLayer(
            (first, second),
            *(StoredLinear(qkv.part(some), bias[some]) for some in thirds),
            *(StoredLinear(self._matrices[name], self._biases[name]) for name in self.NAMES[1:]),
        )

    def expanded(self, scratch: dict[str, np.ndarray]) -> BlockWeights:
        """Its weights in float32, which lie in ``scratch`` where they are not stored so."""
        found = expanded(self._matrices, scratch)
        pairs = {name: (found[name], self._biases[name]) for name in self.NAMES}
        return BlockWeights(self._norms, **pairs)


def fits(config: T3Config) -> bool:
    """Whether the kernels take a model of these sizes."""
    return sizes_fit(config.width, config.heads)


def takes(transformer: GPT2, head: nn.Linear, config: T3Config) -> bool:
    """Whether they take this model: one format in all blocks, and norms in float32."""
    layers: list[nn.Linear] = []
    for block in transformer.h:
        layers += [block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj]
    return fits(config) and transformer.ln_f.weight.dtype == mx.float32 and one_format(layers, head)
