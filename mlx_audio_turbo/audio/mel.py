"""Triangular filters on the two mel scales in use, as (mels, bins) float32 matrices.

Slaney: linear below 1 kHz, logarithmic above, each filter of unit area (Auditory Toolbox, 1998; the
default of librosa). HTK: 1127 ln(1 + f / 700), filters of unit height, as in Kaldi.
"""

from __future__ import annotations

import functools
import math

import numpy as np

_LINEAR_STEP = 200 / 3
"""Hz per mel below the break."""
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_STEP
_LOG_STEP = math.log(6.4) / 27
"""ln(Hz) per mel above the break."""


def _slaney_to_hz(mels: np.ndarray) -> np.ndarray:
    curved = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels >= _BREAK_MEL, curved, _LINEAR_STEP * mels)


def _hz_to_slaney(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_STEP
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def _read_only(x: np.ndarray) -> np.ndarray:
    # Shared by all callers through the cache.
    x.setflags(write=False)
    return x


@functools.cache
def slaney_filters(sample_rate: int, fft: int, mels: int, *, high: float) -> np.ndarray:
    """``mels`` filters from 0 to ``high`` Hz over fft // 2 + 1 bins; equals librosa.filters.mel."""
    edges = _slaney_to_hz(np.linspace(0.0, _hz_to_slaney(high), mels + 2))
    bins = np.fft.rfftfreq(fft, 1 / sample_rate)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    # Rounded to float32 twice, as in librosa, from which the reference has its filters.
    filters = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return _read_only((filters * (2 / (right - left))).astype(np.float32))


@functools.cache
def htk_filters(sample_rate: int, fft: int, mels: int, *, low: float) -> np.ndarray:
    """``mels`` filters from ``low`` Hz to the Nyquist frequency; the last of fft // 2 + 1 is zero.

    Equals the filters of torchaudio.compliance.kaldi. Those are computed in float32 from
    differences of large numbers, up to 1e-5 from exact ones, so each step here rounds as theirs.
    """
    single = np.float32

    def scale(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    start = scale(low)
    step = single((scale(sample_rate / 2) - start) / (mels + 1))
    index = np.arange(mels, dtype=single)[:, None]
    left, centre, right = ((index + single(i)) * step + single(start) for i in range(3))
    bins = np.arange(fft // 2, dtype=single) * single(sample_rate / fft)
    bins = single(1127.0) * np.log((single(1.0) + bins / single(700.0)).astype(np.float64)).astype(
        single
    )
    rising = (bins - left) / (centre - left)
    falling = (right - bins) / (right - centre)
    filters = np.maximum(single(0), np.minimum(rising, falling))
    return _read_only(np.pad(filters, [(0, 0), (0, 1)]))
