"""One measured figure of the parity table, and how figures are computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """``figure`` must be at most ``bound``, or at least where ``at_least``."""

    stage: str
    what: str
    figure: float
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        if not np.isfinite(self.figure) and not (self.at_least and self.figure == np.inf):
            return False
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


def relative(ours: np.ndarray, reference: np.ndarray) -> float:
    """L2 of the difference over L2 of the reference; infinite where shapes differ."""
    if ours.shape != reference.shape:
        return float("inf")
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def max_abs(ours: np.ndarray, reference: np.ndarray) -> float:
    """The largest absolute difference; infinite where shapes differ."""
    if ours.shape != reference.shape:
        return float("inf")
    return float(np.max(np.abs(ours.astype(np.float64) - reference.astype(np.float64))))


def quantile_abs(ours: np.ndarray, reference: np.ndarray, share: float) -> float:
    """The absolute difference that ``share`` of the values stay within."""
    if ours.shape != reference.shape:
        return float("inf")
    difference = np.abs(ours.astype(np.float64) - reference.astype(np.float64))
    return float(np.quantile(difference, share))


def snr(ours: np.ndarray, reference: np.ndarray) -> float:
    """Signal to noise in dB, the noise being the difference; minus infinite on another shape."""
    if ours.shape != reference.shape:
        return float("-inf")
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    noise = np.sum((a - b) ** 2)
    return float("inf") if noise == 0 else float(10 * np.log10(np.sum(b**2) / noise))
