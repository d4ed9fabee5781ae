"""Frames and short-time Fourier transforms, on the host.

Features are computed once per clip, and the networks are sensitive to their seventh digit. They are
computed in float64 and rounded to float32 once, at the end.

Dimensions: N samples, T frames, W window length, F bins (fft // 2 + 1).
"""

from __future__ import annotations

import numpy as np


def hann(length: int, *, periodic: bool = True) -> np.ndarray:
    """The Hann window (W,), float64: one period of a raised cosine.

    The periodic window, for spectral analysis, lacks the last zero of the symmetric one.
    """
    period = length if periodic else length - 1
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)


def reflect_pad(samples: np.ndarray, pad: int) -> np.ndarray:
    """(N,) to (N + 2 * pad,): each end mirrored about its last sample, which is not repeated."""
    return np.pad(samples, pad, mode="reflect")


def frame(samples: np.ndarray, length: int, hop: int) -> np.ndarray:
    """A view (T, length) of the whole frames in ``samples`` (N,): T = (N - length) // hop + 1."""
    if samples.shape[0] < length:
        return np.empty((0, length), samples.dtype)
    return np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]


def power_spectrum(frames: np.ndarray, window: np.ndarray, *, fft: int | None = None) -> np.ndarray:
    """|DFT| ** 2 of windowed ``frames`` (T, W), float64 (T, F); ``fft`` > W pads with zeros."""
    spectrum = np.fft.rfft(frames.astype(np.float64) * window, fft, axis=-1)
    return spectrum.real**2 + spectrum.imag**2
