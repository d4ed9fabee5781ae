"""A recording of any length → speech tokens.

The S3 tokenizer attends to 30 s at most. A longer log-mel is cut into windows that overlap by 4 s,
and the 2 s of tokens at each inner edge are dropped, as in the S3Tokenizer package. The last window
is the first that reaches the end, so that no token of the end is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import mlx.core as mx
import numpy as np

from .s3_tokenizer import S3Tokenizer

WINDOW = 3000
"""Frames of a window, 30 s at 100 frames a second."""
STEP = 2600
EDGE_TOKENS = 50
"""Tokens that are dropped at each edge where two windows meet: half of their overlap."""


def windows(frames: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each window over ``frames`` frames."""
    start = 0
    while start + WINDOW < frames:
        yield start, start + WINDOW
        start += STEP
    yield start, frames


def speech_tokens(s3_tokenizer: S3Tokenizer, log_mel: np.ndarray) -> Iterator[np.ndarray]:
    """The tokens (T,) int32 of ``log_mel`` (F, M), window by window; 25 tokens are one second."""
    for start, stop in windows(len(log_mel)):
        tokens = np.array(s3_tokenizer(mx.array(log_mel[start:stop])[None])[0])
        first = EDGE_TOKENS if start else 0
        last = len(tokens) - (EDGE_TOKENS if stop < len(log_mel) else 0)
        yield tokens[first:last]
