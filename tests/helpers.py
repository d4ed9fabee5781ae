"""Figures and inputs that several tests share."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.loading.folder import LoadedModel
from mlx_audio_turbo.loading.networks import Networks


def whole(loaded: LoadedModel) -> Networks:
    """All networks of a folder, with the one that is read when it is used."""
    if loaded.s3_tokenizer is not None:
        loaded.networks.s3tokenizer = loaded.s3_tokenizer.get()
    return loaded.networks


def normal(*shape: int, seed: int = 0) -> mx.array:
    """Standard normal numbers."""
    return mx.random.normal(shape, key=mx.random.key(seed))


def relative(ours: mx.array | np.ndarray, reference: mx.array | np.ndarray) -> float:
    """L2 of the difference over L2 of the reference; infinite if the shapes differ."""
    if ours.shape != reference.shape:
        return float("inf")
    a, b = np.array(ours, np.float64), np.array(reference, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def max_abs(ours: np.ndarray, reference: np.ndarray) -> float:
    """The largest absolute difference; infinite if the shapes differ."""
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


def check_rows_alone(
    network: Callable[[mx.array], mx.array],
    batch: mx.array,
    *,
    rtol: float = 1e-5,
    atol: float,
) -> None:
    """Assert that every row of a batch gives what it gives alone."""
    together = network(batch)
    for row in range(batch.shape[0]):
        alone = network(batch[row : row + 1])
        assert mx.allclose(together[row : row + 1], alone, rtol=rtol, atol=atol), f"row {row}"
