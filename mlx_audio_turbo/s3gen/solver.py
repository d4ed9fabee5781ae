"""Euler's method from noise to mel.

A mean flow (Geng et al., 2025) takes a few large steps of equal size with the mean velocity of
each.

Dimensions: B batch, T frames, M mel channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import mlx.core as mx


class Velocity(Protocol):
    """The velocity of a state (B, T, M) between the times ``t`` and ``r``, of the same shape."""

    def __call__(self, x: mx.array, t: float, r: float) -> mx.array: ...


def uniform_times(steps: int) -> list[float]:
    """``steps`` equal steps from 0 to 1, their ends included."""
    return [step / steps for step in range(steps + 1)]


def solve(velocity: Velocity, noise: mx.array, times: Sequence[float]) -> Iterator[mx.array]:
    """Carry ``noise`` (B, T, M) through ``times``; yields the state after each step.

    Nothing is evaluated here. A caller who evaluates each state before taking the next holds the
    graph of one step in memory; the last state is the result.
    """
    x = noise
    for t, r in pairwise(times):
        x = x + (r - t) * velocity(x, t, r)
        yield x
