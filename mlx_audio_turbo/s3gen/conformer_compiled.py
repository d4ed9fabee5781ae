"""The encoder's blocks in compiled kernels: the arithmetic of :mod:`.conformer` in float32.

Dimensions: B batch, T steps, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import mlx.core as mx
import numpy as np

from ..config import EncoderConfig
from ..ops.compiled.panels import from_panels, to_panels
from ..ops.compiled.tiles import COLUMNS
from ..ops.transformer import Sizes, Transformer, block_parameters, project
from .conformer import BLOCK_NORM_EPS, Block, relative_positions


def through(
    config: EncoderConfig, blocks: Sequence[Block], x: mx.array, lengths: mx.array | None
) -> mx.array:
    """Carry ``x`` (B, T, C) through the blocks; steps past an item's length are zeros."""
    sizes = Sizes(config.width, config.heads, config.head_dim, config.feed_forward, BLOCK_NORM_EPS)
    parameters = [
        block_parameters(
            block.attention_norm,
            *(block.attention.q, block.attention.k, block.attention.v, block.attention.out),
            block.feed_forward_norm,
            *(block.feed_forward.linear1, block.feed_forward.linear2),
            bias_u=block.attention.bias_u,
            bias_v=block.attention.bias_v,
        )
        for block in blocks
    ]
    values = np.asarray(x)
    time = values.shape[1]
    ends = [time] * len(values) if lengths is None else np.asarray(lengths).tolist()
    rows: list[np.ndarray] = []
    for row, end in zip(values, ends, strict=True):
        table = _distances(end, config.width)
        positions = [project(block.attention.pos.weight, table) for block in blocks]
        panels = to_panels(row[:end])
        transformer = Transformer(sizes, end)
        transformer.begin(panels, parameters[0])
        transformer.through(panels, parameters, positions)
        rows.append(from_panels(panels, time))
    return mx.array(np.stack(rows))


@lru_cache(maxsize=4)
def _distances(time: int, width: int) -> np.ndarray:
    """:func:`.conformer.relative_positions` in panels, behind an empty one."""
    table = np.asarray(relative_positions(time, width))
    return to_panels(np.concatenate([np.zeros((COLUMNS, width), np.float32), table]))
