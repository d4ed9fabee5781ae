"""Classifier-free guidance (Ho and Salimans, 2022) over two cache rows per utterance.

Dimensions: B utterances, T time, C width, V speech ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from .interface import Forward


def guide(logits: mx.array, weight: float) -> mx.array:
    """Guided logits (B, V) of ``logits`` (2 * B, V): c + weight (c - u).

    The rows of an utterance are neighbours: c with its text, then u without.
    """
    conditional, unconditional = logits[0::2], logits[1::2]
    return conditional + weight * (conditional - unconditional)


def guided(forward: Forward, weight: float) -> Forward:
    """A :data:`~.interface.Forward` from 2 * B rows to guided logits (B, V)."""

    def guided_forward(x: mx.array, cache: Any, lengths: Sequence[int]) -> mx.array:
        return guide(forward(x, cache, lengths), weight)

    return guided_forward
