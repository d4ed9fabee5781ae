"""The encoder's blocks in compiled kernels: the arithmetic of :mod:`.conformer` in float32.

Dimensions: B batch, T steps, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import mlx.core as mx
import numpy as np

from ..config import EncoderConfig
from ..ops.compiled.panels import Addresses, from_panels, kept, to_panels
from ..ops.compiled.tiles import COLUMNS
from ..ops.transformer import Sizes, Transformer, block_parameters, project
from .conformer import BLOCK_NORM_EPS, Block, relative_positions


def through(
    config: EncoderConfig, blocks: Sequence[Block], x: mx.array, lengths: mx.array | None
) -> mx.array:
    """Carry ``x`` (B, T, C) through the blocks; steps past an item's length are zeros."""
    sizes = Sizes(config.width, config.heads, config.head_dim, config.feed_forward, BLOCK_NORM_EPS)
    made = [kept(block, _parameters) for block in blocks]
    parameters = [each for each, _ in made]
    values = np.asarray(x)
    time = values.shape[1]
    ends = [time] * len(values) if lengths is None else np.asarray(lengths).tolist()
    rows: list[np.ndarray] = []
    for row, end in zip(values, ends, strict=True):
        table = _distances(end, config.width)
        positions = [project(weight, config.width, table) for _, weight in made]
        panels = to_panels(row[:end])
        transformer = Transformer(sizes, end)
        transformer.begin(panels, parameters[0])
        transformer.through(panels, parameters, positions)
        rows.append(from_panels(panels, time))
    return mx.array(np.stack(rows))


def _parameters(block: Block) -> tuple[Addresses, Addresses]:
    """Those of the kernels, and the weight of the positions."""
    attention, feed = block.attention, block.feed_forward
    parameters = block_parameters(
        block.attention_norm,
        *(attention.q, attention.k, attention.v, attention.out),
        block.feed_forward_norm,
        *(feed.linear1, feed.linear2),
        bias_u=attention.bias_u,
        bias_v=attention.bias_v,
    )
    return parameters, Addresses(attention.pos.weight)


@lru_cache(maxsize=4)
def _distances(time: int, width: int) -> np.ndarray:
    """:func:`.conformer.relative_positions` in panels, behind an empty one."""
    table = np.asarray(relative_positions(time, width))
    return to_panels(np.concatenate([np.zeros((COLUMNS, width), np.float32), table]))
