"""Classifier-free guidance (Ho and Salimans, 2022) over two cache rows per utterance.

Dimensions: B utterances, V speech ids.
"""

from __future__ import annotations

import mlx.core as mx


def guide(logits: mx.array, weight: float) -> mx.array:
    """Guided logits (B, V) of ``logits`` (2 * B, V): c + weight (c - u).

    The rows of an utterance are neighbours: c with its text, then u without.
    """
    conditional, unconditional = logits[0::2], logits[1::2]
    return conditional + weight * (conditional - unconditional)
