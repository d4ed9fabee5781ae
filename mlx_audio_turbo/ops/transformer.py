"""Transformer blocks of one sequence in compiled kernels. Import it where ``lanes`` suit.

Dimensions: P panels of steps, C channels, I channels of all heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .compiled import flow_kernels as kernels
from .compiled.panels import Addresses
from .compiled.tiles import COLUMNS
from .lanes import for_each, lane_count

NOTHING = Addresses()


@dataclass(frozen=True)
class Sizes:
    """Of the blocks. eps: of the norms."""

    channels: int
    heads: int
    head_dim: int
    feed_forward: int
    eps: float

    @property
    def inner(self) -> int:
        """I."""
        return self.heads * self.head_dim


def block_parameters(
    norm1: nn.LayerNorm,
    q: nn.Linear,
    k: nn.Linear,
    v: nn.Linear,
    out: nn.Linear,
    norm2: nn.LayerNorm,
    linear1: nn.Linear,
    linear2: nn.Linear,
    *,
    bias_u: mx.array | None = None,
    bias_v: mx.array | None = None,
) -> Addresses:
    """The parameters of a block in the order of the kernels.

    bias_u, bias_v: what relative attention adds to the queries, for keys and for distances.
    """
    bias, difference = q.get("bias"), None
    if bias_u is not None and bias_v is not None:
        bias = q.bias + bias_u.reshape(-1)
        difference = (bias_v - bias_u).reshape(-1)
    return Addresses(
        *(norm1.weight, norm1.bias, q.weight, k.weight, v.weight, out.weight, out.bias),
        *(norm2.weight, norm2.bias, linear1.weight, linear1.bias, linear2.weight, linear2.bias),
        *(bias, k.get("bias"), v.get("bias"), difference),
    )


class Transformer:
    """The blocks of one sequence of ``time`` steps, with the memory that they share."""

    def __init__(self, sizes: Sizes, time: int):
        self._sizes, self._time = sizes, time
        self._panels = -(-time // COLUMNS)
        # Queries, keys and values of a block, and those of the one after it.
        self._held = np.zeros((2, 3, self._panels, sizes.inner, COLUMNS), np.float32)
        size = kernels.scratch_values(
            sizes.channels, sizes.inner, sizes.feed_forward, self._panels, sizes.head_dim
        )
        self.scratch = np.empty((lane_count(), size), np.float32)
        self.held = np.array(
            [self._held[i, j].ctypes.data for i in range(2) for j in range(3)], np.int64
        )

    def begin(self, x: np.ndarray, first: Addresses) -> None:
        """Queries, keys and values of the first block for ``x`` (P, C, COLUMNS)."""
        # What comes before the first block has none of its own.
        held = np.roll(self.held, 3)
        for_each(partial(self._transform, x, 0, held, NOTHING, first), self._panels)

    def through(
        self,
        x: np.ndarray,
        blocks: Sequence[Addresses],
        positions: Sequence[np.ndarray] | None = None,
    ) -> None:
        """Carry ``x`` (P, C, COLUMNS) through the blocks, in place, after :meth:`begin`.

        positions: of each block, projected, for relative attention: (panels, I, COLUMNS), whose
            first panel stands for no distance.
        """
        held = self.held
        for i, block in enumerate(blocks):
            later = blocks[i + 1] if i + 1 < len(blocks) else NOTHING
            place = positions[i].ctypes.data if positions else 0
            for_each(partial(self._transform, x, place, held, block, later), self._panels)
            held = np.roll(held, 3)

    def _transform(
        self,
        x: np.ndarray,
        positions: int,
        held: np.ndarray,
        block: Addresses,
        later: Addresses,
        lane: int,
        panel: int,
    ) -> None:
        sizes = self._sizes
        kernels.transform(
            x.ctypes.data, panel, sizes.channels, sizes.heads, sizes.head_dim, sizes.feed_forward,
            self._panels, self._time, np.float32(sizes.eps), positions, held,
            block.array, later.array, self.scratch[lane],
        )  # fmt: skip


def project(weight: Addresses, outputs: int, x: np.ndarray) -> np.ndarray:
    """``x`` (P, inputs, COLUMNS) times a weight (outputs, inputs)."""
    inputs, none = x.shape[1], NOTHING.array
    y = np.empty((len(x), outputs, COLUMNS), np.float32)
    scratch = np.empty((lane_count(), inputs * COLUMNS), np.float32)
    weights = np.array([weight.array[0], 0], np.int64)

    def work(lane: int, panel: int) -> None:
        kernels.causal(
            x.ctypes.data, panel, inputs, outputs, 1, weights, 0, 0, 0,
            y.ctypes.data, none, 0, none, scratch[lane],
        )  # fmt: skip

    for_each(work, len(x))
    return y
