"""Euler's method from noise to mel.

A mean flow (Geng et al., 2025) takes a few equal steps with the mean velocity of each. Flow
matching (Lipman et al., 2022) takes more, small at first, with the velocity at their beginning and
classifier-free guidance (Ho and Salimans, 2022).

Dimensions: B batch, T frames, M mel channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import mlx.core as mx


class Velocity(Protocol):
    """The velocity of a state (B, T, M) between the times ``t`` and ``r``, of the same shape."""

    def __call__(self, x: mx.array, t: float, r: float) -> mx.array: ...


def uniform_times(steps: int) -> list[float]:
    """``steps`` equal steps from 0 to 1, their ends included."""
    return [step / steps for step in range(steps + 1)]


def cosine_times(steps: int) -> list[float]:
    """``steps`` steps from 0 to 1 that grow: 1 - cos(pi / 2 * i / steps)."""
    return [1 - math.cos(math.pi / 2 * step / steps) for step in range(steps)] + [1.0]


SCHEDULES: Mapping[str, Callable[[int], list[float]]] = {
    "uniform": uniform_times,
    "cosine": cosine_times,
}
"""The times of the solver by the name in the configuration."""


def guided(velocity: Velocity, rate: float) -> Velocity:
    """Classifier-free guidance: (1 + rate) * conditional - rate * unconditional velocity.

    Args:
        velocity: of 2B rows; the first half is conditional, the second unconditional.
    """

    def difference(x: mx.array, t: float, r: float) -> mx.array:
        conditional, unconditional = mx.split(velocity(mx.concatenate([x, x]), t, r), 2)
        return (1 + rate) * conditional - rate * unconditional

    return difference


def solve(velocity: Velocity, noise: mx.array, times: Sequence[float]) -> Iterator[mx.array]:
    """Carry ``noise`` (B, T, M) through ``times``; yields the state after each step.

    Nothing is evaluated here. A caller who evaluates each state before taking the next holds the
    graph of one step in memory; the last state is the result.
    """
    x = noise
    for t, r in pairwise(times):
        x = x + (r - t) * velocity(x, t, r)
        yield x
