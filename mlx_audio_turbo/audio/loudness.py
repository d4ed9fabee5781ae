"""Loudness after ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np

_BLOCK_SECONDS = 0.4
"""The shortest audio with a defined loudness."""


def normalize_loudness(samples: np.ndarray, sample_rate: int, *, target: float) -> np.ndarray:
    """Scale float32 ``samples`` (N,) so that their integrated loudness is ``target`` LUFS.

    Silence and audio shorter than 0.4 s have no loudness and are returned unchanged.
    """
    # Imports scipy, which takes longer than the measurement.
    import pyloudnorm

    if samples.shape[0] < _BLOCK_SECONDS * sample_rate:
        return samples
    loudness = float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples))
    gain = 10 ** ((target - loudness) / 20) if math.isfinite(loudness) else math.inf
    return samples * np.float32(gain) if math.isfinite(gain) else samples
