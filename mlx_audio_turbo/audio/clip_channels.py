"""The channels of a clip → the one that holds the voice.

Dimensions: N samples, C channels.
"""

from __future__ import annotations

import logging

import numpy as np

OFFSET = 0.005
"""Share of full scale. Real recordings have smaller offsets, which change nothing."""
EMPTY_DB = -50.0
"""A channel this far below the loudest holds nothing of the voice."""
CANCELS = 0.5
"""The mean of channels that have nothing in common has the power of their mean power over C. Less
than this share of its amplitude, and they cancel each other."""

_log = logging.getLogger(__name__)


def to_mono(samples: np.ndarray, name: str) -> np.ndarray:
    """The mean (N,) of finite float32 ``samples`` (N, C), or of the channels that it is made of.

    A DC offset is removed: it cannot be heard and changes the voice. Empty channels are left out.
    Where channels cancel each other the loudest is taken. Each of these is logged as a warning.
    """
    offsets = samples.mean(axis=0, dtype=np.float64)
    worst = float(np.max(np.abs(offsets), initial=0.0))
    if worst > OFFSET and np.ptp(samples) > 0:
        samples = samples - offsets.astype(np.float32)
        _log.warning(
            "%s has a DC offset of %.1f %%, which is removed; check the sound card or the recorder",
            *(name, 100 * worst),
        )
        offsets = np.zeros_like(offsets)
    if samples.shape[1] == 1:
        return samples[:, 0]
    levels = np.sqrt(np.maximum(np.mean(samples.astype(np.float64) ** 2, axis=0) - offsets**2, 0))
    loudest = int(np.argmax(levels))
    used = levels > levels[loudest] * 10 ** (EMPTY_DB / 20)
    if not levels[loudest]:
        return np.mean(samples.T, axis=0)
    if not used.all():
        empty = ", ".join(str(index + 1) for index in np.flatnonzero(~used))
        _log.warning(
            "%s has %d channels, of which %s is empty and left out; export the others alone",
            *(name, len(used), empty),
        )
        samples, levels = samples[:, used], levels[used]
        loudest = int(np.argmax(levels))
    mono = np.mean(samples.T, axis=0)
    unrelated = np.sqrt(np.sum(levels**2)) / len(levels)
    if len(levels) > 1 and np.std(mono, dtype=np.float64) < CANCELS * unrelated:
        _log.warning(
            "%s has channels that cancel each other (one is inverted); only the loudest is taken: "
            "export one of them",
            name,
        )
        return samples[:, loudest]
    return mono
