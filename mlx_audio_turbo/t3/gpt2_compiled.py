"""GPT-2 on a CPU by compiled kernels, which read the weights as they are stored.

Dimensions: B batch, T time, C width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import T3Config
from ..ops.compiled.matrices import floats
from .cache import KeyValueCache
from .gpt2 import GPT2, Block
from .gpt2_numpy import LayerNorm
from .interface import AtOnce
from .transformer_compiled import (
    CompiledTransformer,
    Norm,
    StoredLayer,
    StoredLinear,
    matrix,
    one_format,
)
from .transformer_compiled import fits as sizes_fit
from .transformer_numpy import Rows, threads


class CompiledForward(AtOnce):
    """A :data:`~.interface.Forward` that runs at once, on the model's own weights."""

    def __init__(self, transformer: GPT2, head: nn.Linear, config: T3Config):
        self._positions = Rows(transformer.wpe)
        self._layers = CompiledTransformer(
            [_stored(block) for block in transformer.h],
            _norm(transformer.ln_f),
            _linear(head),
            heads=config.heads,
            eps=transformer.ln_f.eps,
            lanes=threads(config.heads),
        )

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        y = np.asarray(x.astype(mx.float32)) + self._positions(positions)
        return mx.array(self._layers(y, cache, lengths))


def _stored(block: Block) -> StoredLayer:
    """A block as it lies in memory."""
    qkv = _linear(block.attn.c_attn)
    width = qkv.matrix.inputs
    thirds = [slice(i * width, (i + 1) * width) for i in range(3)]
    others = (block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj)
    return StoredLayer(
        (_norm(block.ln_1), _norm(block.ln_2)),
        *(qkv.part(some) for some in thirds),
        *map(_linear, others),
    )


def _norm(module: nn.LayerNorm) -> Norm:
    norm = LayerNorm(module)
    return Norm(norm.weight, norm.bias)


def _linear(layer: nn.Linear) -> StoredLinear:
    return StoredLinear(matrix(layer), floats(layer.bias))


def fits(config: T3Config) -> bool:
    """Whether the kernels take a model of these sizes."""
    return sizes_fit(config.width, config.heads)


def takes(transformer: GPT2, head: nn.Linear, config: T3Config) -> bool:
    """Whether they take this model: one format in all blocks, and norms in float32."""
    layers: list[nn.Linear] = []
    for block in transformer.h:
        layers += [block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj]
    return fits(config) and transformer.ln_f.weight.dtype == mx.float32 and one_format(layers, head)
