"""Loudness after ITU-R BS.1770-4."""

from __future__ import annotations

import math

import numpy as np

_BLOCK_SECONDS = 0.4
"""The shortest stretch whose loudness is defined."""


def normalize_loudness(samples: np.ndarray, sample_rate: int, *, target: float) -> np.ndarray:
    """Scale float32 ``samples`` (N,) so that their integrated loudness is ``target`` LUFS.

    What has no loudness (silence, less than 0.4 s) is given back as it is.
    """
    # Imports scipy, which takes longer than the measurement.
    import pyloudnorm

    if samples.shape[0] < _BLOCK_SECONDS * sample_rate:
        return samples
    loudness = float(pyloudnorm.Meter(sample_rate).integrated_loudness(samples))
    gain = 10 ** ((target - loudness) / 20) if math.isfinite(loudness) else math.inf
    return samples * np.float32(gain) if math.isfinite(gain) else samples
