"""The estimator in compiled kernels: the arithmetic of :mod:`.estimator` in float32.

Dimensions: B batch, T frames, M mel channels, C channels, P panels of frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import EstimatorConfig
from ..ops.compiled import flow_kernels as kernels
from ..ops.compiled.panels import Addresses, from_panels, to_panels
from ..ops.compiled.tiles import COLUMNS
from ..ops.lanes import for_each
from ..ops.layers import Conv1d
from ..ops.transformer import NOTHING, Sizes, Transformer, block_parameters
from .estimator import (
    KERNEL,
    NORM_EPS,
    CausalBlock,
    Estimator,
    Level,
    TransformerBlock,
    all_inputs,
    time_sinusoids,
)


class CompiledEstimator:
    """Computes at once, on views of the network's own arrays."""

    def __init__(self, network: Estimator):
        self._config = network.config
        self._time_mlp, self._final_proj = network.time_mlp, network.final_proj
        self._time_mixer = network.time_mixer if network.config.mean_flow else None
        self._levels = [_Level(level) for level in (network.down, *network.mid, network.up)]
        self._down_conv = Addresses(*_parameters(network.down_conv))
        self._up_conv = Addresses(*_parameters(network.up_conv))
        self._final = Addresses(*_causal(network.final_block))

    def __call__(
        self,
        x: mx.array,
        *,
        mu: mx.array,
        speaker: mx.array,
        condition: mx.array,
        t: float,
        r: float,
        lengths: mx.array | None = None,
    ) -> mx.array:
        """As the network's own call."""
        inputs = np.asarray(all_inputs(x, mu, speaker, condition))
        time = inputs.shape[1]
        embedding = self._embed_time(t, r)
        times = [_product(level.time, embedding) for level in self._levels]
        ends = [time] * len(inputs) if lengths is None else np.asarray(lengths).tolist()
        rows = [
            from_panels(_Run(row[:end], self._config).through(self, times), time)
            for row, end in zip(inputs, ends, strict=True)
        ]
        return self._final_proj(mx.array(np.stack(rows)))

    def _embed_time(self, t: float, r: float) -> np.ndarray:
        """:meth:`.Estimator.embed_time` (E,). MLX multiplies one row slowly."""
        mlp, size = self._time_mlp, self._time_mlp.linear1.weight.shape[1]
        both = [
            _product(mlp.linear2, y / (1 + np.exp(-y)))
            for y in (_product(mlp.linear1, x) for x in np.asarray(time_sinusoids((t, r), size)))
        ]
        y = both[0]
        if self._time_mixer is not None:
            y = _product(self._time_mixer, np.concatenate(both))
        return y * np.tanh(np.logaddexp(y, np.float32(0)))


class _Level:
    """The parameters of a :class:`~.estimator.Level`."""

    def __init__(self, level: Level):
        resnet = level.resnet
        self.time = resnet.time
        self.block1 = Addresses(*_causal(resnet.block1))
        self.block2 = Addresses(*_causal(resnet.block2), *_parameters(resnet.residual))
        self.blocks = [_transformer(block) for block in level.blocks]


class _Run:
    """One sequence: its panels on their way through the network."""

    def __init__(self, inputs: np.ndarray, config: EstimatorConfig):
        self._channels = config.channels
        self._source = to_panels(inputs)
        sizes = Sizes(config.channels, config.heads, config.head_dim, config.feed_forward, NORM_EPS)
        self._inner = sizes.inner
        self._transformer = Transformer(sizes, len(inputs))

    def through(self, network: CompiledEstimator, times: Sequence[np.ndarray]) -> np.ndarray:
        """(P, C, COLUMNS) behind the last block."""
        x = skip = self._level(network._levels[0], times[0], self._source)
        x = self._causal(network._down_conv, x)
        for level, time in zip(network._levels[1:-1], times[1:-1], strict=True):
            x = self._level(level, time, x)
        x = self._level(network._levels[-1], times[-1], np.concatenate([x, skip], axis=1))
        return self._causal(network._final, self._causal(network._up_conv, x))

    def _level(self, level: _Level, time: np.ndarray, x: np.ndarray) -> np.ndarray:
        y = self._causal(level.block1, x, time=time)
        y = self._causal(level.block2, y, skip=x, later=level.blocks[0])
        self._transformer.through(y, level.blocks)
        return y

    def _causal(
        self,
        weights: Addresses,
        x: np.ndarray,
        *,
        time: np.ndarray | None = None,
        skip: np.ndarray | None = None,
        later: Addresses = NOTHING,
    ) -> np.ndarray:
        y = np.empty((len(x), self._channels, COLUMNS), np.float32)
        held, scratch = self._transformer.held, self._transformer.scratch

        def work(lane: int, panel: int) -> None:
            kernels.causal(
                x.ctypes.data, panel, x.shape[1], self._channels, KERNEL, weights.array,
                0 if time is None else time.ctypes.data,
                0 if skip is None else skip.ctypes.data,
                0 if skip is None else skip.shape[1],
                y.ctypes.data, held, self._inner, later.array, scratch[lane],
            )  # fmt: skip

        for_each(work, len(x))
        return y


def _product(linear: nn.Linear, x: np.ndarray) -> np.ndarray:
    """A layer of one row (inputs,)."""
    y = np.asarray(linear["weight"]) @ x
    return y if "bias" not in linear else y + np.asarray(linear["bias"])


def _parameters(module: Conv1d | nn.Linear | nn.LayerNorm) -> list[mx.array]:
    return [module["weight"], module["bias"]]


def _causal(block: CausalBlock) -> list[mx.array]:
    return [*_parameters(block.conv), *_parameters(block.norm)]


def _transformer(block: TransformerBlock) -> Addresses:
    attention, feed = block.attention, block.feed_forward
    return block_parameters(
        block.attention_norm,
        *(attention.q, attention.k, attention.v, attention.out),
        block.feed_forward_norm,
        *(feed.linear1, feed.linear2),
    )
