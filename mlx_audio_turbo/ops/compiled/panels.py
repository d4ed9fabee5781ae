"""Sequences in panels, and parameters by address, as kernels take them."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from .tiles import COLUMNS


class Addresses:
    """The addresses of float32 arrays, in order, 0 for None; keeps the arrays."""

    def __init__(self, *arrays: mx.array | None):
        mx.eval(*(array for array in arrays if array is not None))
        # What was made of a transposed array of NumPy does not lie row by row.
        self._kept = [
            None if array is None else np.ascontiguousarray(np.asarray(array)) for array in arrays
        ]
        self.array = np.array(
            [0 if each is None else each.ctypes.data for each in self._kept], np.int64
        )


def to_panels(x: np.ndarray) -> np.ndarray:
    """(T, C) to panels (P, C, COLUMNS) of neighbouring steps, with zeros behind the last one."""
    time, channels = x.shape
    count = -(-time // COLUMNS)
    padded = np.zeros((count * COLUMNS, channels), np.float32)
    padded[:time] = x
    return np.ascontiguousarray(padded.reshape(count, COLUMNS, channels).swapaxes(1, 2))


def from_panels(panels: np.ndarray, time: int) -> np.ndarray:
    """The inverse of :func:`to_panels`: (time, C), zeros where the panels end before."""
    channels = panels.shape[1]
    x = panels.swapaxes(1, 2).reshape(-1, channels)[:time]
    return np.pad(x, [(0, time - len(x)), (0, 0)])
