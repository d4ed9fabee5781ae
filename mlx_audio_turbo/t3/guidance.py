"""Classifier-free guidance (Ho and Salimans, 2022) over two cache rows per utterance.

Dimensions: B utterances, V speech ids.
"""

from __future__ import annotations

from typing import TypeVar

import mlx.core as mx
import numpy as np

A = TypeVar("A", mx.array, np.ndarray)


def guide(logits: A, weight: float) -> A:
    """Guided logits (B, V) of ``logits`` (2 * B, V): c + weight (c - u).

    The rows of an utterance are neighbours: c with its text, then u without.
    """
    conditional, unconditional = logits[0::2], logits[1::2]
    return conditional + weight * (conditional - unconditional)
