"""Llama on a CPU by compiled kernels, which read the weights as they are stored.

Dimensions: B batch, T time, C width, D head width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.llama import LlamaModel, TransformerBlock

from ..config import OriginalT3Config
from ..ops.compiled.formats import SPAN
from .cache import KeyValueCache
from .interface import AtOnce
from .llama_numpy import RMSNorm, cosines_and_sines, linear_layers, norms_of, rotary_frequencies
from .transformer_compiled import (
    CompiledTransformer,
    Norm,
    StoredLayer,
    StoredLinear,
    compile_kernels,
    matrix,
    one_format,
)
from .transformer_compiled import fits as sizes_fit
from .transformer_numpy import threads


class CompiledForward(AtOnce):
    """A :data:`~.interface.Forward` that runs at once, on the model's own weights."""

    def __init__(self, transformer: LlamaModel, head: nn.Linear, config: OriginalT3Config):
        self._frequencies = rotary_frequencies(config)
        self._layers = CompiledTransformer(
            [_stored(block) for block in transformer.layers],
            Norm(RMSNorm(transformer.norm).weight),
            StoredLinear(matrix(head)),
            heads=config.heads,
            eps=config.norm_eps,
            lanes=threads(config.heads),
        )

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        angles = np.concatenate(cosines_and_sines(positions, self._frequencies), axis=-1)
        y = np.asarray(x.astype(mx.float32))
        return mx.array(self._layers(y, cache, lengths, angles))


def _stored(block: TransformerBlock) -> StoredLayer:
    """A block as it lies in memory."""
    first, second = (Norm(norm.weight) for norm in norms_of(block))
    layers = {name: StoredLinear(matrix(each)) for name, each in linear_layers(block).items()}
    enter, leave = layers.pop("up"), layers.pop("down")
    return StoredLayer((first, second), enter=enter, leave=leave, **layers)


def fits(config: OriginalT3Config) -> bool:
    """Whether the kernels take a model of these sizes."""
    return sizes_fit(config.width, config.heads) and config.feed_forward % SPAN == 0


def takes(transformer: LlamaModel, head: nn.Linear, config: OriginalT3Config) -> bool:
    """Whether they take this model: one format in all blocks, and norms in float32.

    Raises:
        CannotCompileError: they take it, and numba does not take them.
    """
    layers = [each for block in transformer.layers for each in linear_layers(block).values()]
    taken = (
        fits(config) and transformer.norm.weight.dtype == mx.float32 and one_format(layers, head)
    )
    if taken:
        compile_kernels(matrix(layers[0]).format, matrix(head).format)
    return taken
