"""Llama on a CPU by compiled kernels, which read the weights as they are stored.

Dimensions: B batch, T time, C width, D head width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.llama import LlamaModel, TransformerBlock

from ..config import OriginalT3Config
from ..ops import blas
from ..ops.compiled.formats import SPAN
from ..ops.compiled.matrices import Matrix
from ..ops.compiled.transformer import compile_step
from .cache import KeyValueCache
from .llama_numpy import (
    BlockWeights,
    RMSNorm,
    cosines_and_sines,
    linear_layers,
    make_layer,
    norms_of,
    rotary_frequencies,
    rotation,
)
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

    def __init__(self, transformer: LlamaModel, head: nn.Linear, config: OriginalT3Config):
        self._config = config
        self._frequencies = rotary_frequencies(config)
        self._layers = [_Stored(block) for block in transformer.layers]
        self._norm, self._head = RMSNorm(transformer.norm), matrix(head)
        self._step = CompiledStep(
            [layer.as_stored() for layer in self._layers],
            Norm(self._norm.weight),
            StoredLinear(self._head),
            heads=config.heads,
            eps=config.norm_eps,
            lanes=threads(config.heads),
        )

    def __call__(self, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]) -> mx.array:
        padding = [cache.offset - length for length in lengths]
        positions = np.asarray(lengths)[:, None] + np.arange(x.shape[1])
        angles = cosines_and_sines(positions, self._frequencies)
        y = np.asarray(x.astype(mx.float32))
        if x.shape[1] == 1:
            turned = np.concatenate(angles, axis=-1)[:, 0]
            return mx.array(self._step(y[:, 0], cache, padding, turned))
        return mx.array(self._prefill(y, cache, Step(padding, rotation(*angles))))

    def _prefill(self, x: np.ndarray, cache: KeyValueCache, step: Step) -> np.ndarray:
        """Logits (B, V) of the last of several positions (B, T, C)."""
        scratch: dict[str, np.ndarray] = {}
        with blas.one_thread():
            for stored, held in zip(self._layers, cache.layers, strict=True):
                x = make_layer(stored.expanded(scratch), self._config)(x, held, step)
            last = self._norm(x[:, -1])
            parts = split(self._head.outputs, threads(self._config.heads))
            tasks = [partial(_product, self._head, some, last) for some in parts]
            return np.concatenate(parallel(tasks), axis=-1)


def _product(head: Matrix, some: slice, x: np.ndarray) -> np.ndarray:
    return Linear(head.floats(some))(x)


class _Stored:
    """A block as it lies in memory."""

    def __init__(self, block: TransformerBlock):
        self._norms = norms_of(block)
        self._matrices = {name: matrix(x) for name, x in linear_layers(block).items()}

    def as_stored(self) -> StoredLayer:
        """For the kernel."""
        first, second = (Norm(norm.weight) for norm in self._norms)
        layers = {name: StoredLinear(each) for name, each in self._matrices.items()}
        enter, leave = layers.pop("up"), layers.pop("down")
        return StoredLayer((first, second), enter=enter, leave=leave, **layers)

    def expanded(self, scratch: dict[str, np.ndarray]) -> BlockWeights:
        """Its weights in float32, which lie in ``scratch`` where they are not stored so."""
        return BlockWeights(self._norms, **expanded(self._matrices, scratch))


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
        compile_step(matrix(layers[0]).format, matrix(head).format)
    return taken
