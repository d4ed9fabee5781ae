"""Sequences in panels, and parameters by address, as kernels take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from .tiles import COLUMNS

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


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


def kept(module: M, make: Callable[[M], T]) -> T:
    """What ``make`` gives for a network, made again only where one of its arrays is another one.

    Nothing in the package writes into an array of a network.

    Args:
        make: one function for each network. What it gives does not refer to the network, which
            would then live until the next search for cycles.
    """
    arrays = [array for _, array in tree_flatten(module.parameters())]
    known, made = module.__dict__.get("_kept_for_kernels", ((), None))
    if len(known) != len(arrays) or any(a is not b for a, b in zip(known, arrays, strict=True)):
        made = make(module)
        module.__dict__["_kept_for_kernels"] = arrays, made
    return made


def panels_of(x: np.ndarray) -> np.ndarray:
    """(B, T, C) to panels (B * P, C, COLUMNS), each row's one after another."""
    return np.concatenate([to_panels(row) for row in x])


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
