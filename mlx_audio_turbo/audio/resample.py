"""The two resamplers of the reference; its networks are sensitive to the difference.

Dimensions: N samples in, M samples out, P phases, K taps.
"""

from __future__ import annotations

import functools
import math

import numpy as np

_ZERO_CROSSINGS = 6
_ROLLOFF = 0.99
"""Cut-off as a share of the lower Nyquist frequency."""


def resample_soxr(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """SoX's resampler at high quality, (N,) to (ceil(N * target / source),); equals librosa's."""
    import soxr

    if source_rate == target_rate:
        return samples
    length = math.ceil(samples.shape[0] * (float(target_rate) / source_rate))
    resampled = soxr.resample(samples, source_rate, target_rate, quality="soxr_hq")[:length]
    return np.pad(resampled, (0, length - resampled.shape[0]))


def resample_sinc(samples: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Hann-windowed sinc interpolation, (N,) to float32 (ceil(N * target / source),).

    Equals torchaudio.transforms.Resample with its defaults (Smith, "Digital Audio Resampling").
    """
    divisor = math.gcd(source_rate, target_rate)
    source, target = source_rate // divisor, target_rate // divisor
    if source == target:
        return samples.astype(np.float32)
    kernel, reach = _sinc_kernel(source, target)
    length = samples.shape[0]
    padded = np.pad(samples.astype(np.float64), (reach, reach + source))
    # The same P = target filters repeat every `source` samples.
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[1])[::source]
    resampled = (windows @ kernel.T).reshape(-1)
    return resampled[: -(-target * length // source)].astype(np.float32)


@functools.cache
def _sinc_kernel(source: int, target: int) -> tuple[np.ndarray, int]:
    """Filters (P, K) as float64 of float32 values, and how many samples they reach to each side."""
    cutoff = min(source, target) * _ROLLOFF
    reach = math.ceil(_ZERO_CROSSINGS * source / cutoff)
    # torchaudio divides the phases in float32 and everything else in float64.
    phases = np.arange(0, -target, -1).astype(np.float32) / np.float32(target)
    taps = np.arange(-reach, reach + source) / source
    t = (phases.astype(np.float64)[:, None] + taps) * cutoff
    t = np.clip(t, -_ZERO_CROSSINGS, _ZERO_CROSSINGS)
    window = np.cos(t * np.pi / _ZERO_CROSSINGS / 2) ** 2
    kernel = np.sinc(t) * window * (cutoff / source)
    return kernel.astype(np.float32).astype(np.float64), reach
