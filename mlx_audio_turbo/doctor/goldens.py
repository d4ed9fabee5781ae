"""Recorded outputs, kept as sketches, and the comparison with them.

A count sketch (Charikar et al., 2002) adds the values with random signs into 256 sums. The norm of
the difference of two sketches estimates that of the difference of the arrays, so a few kilobytes
stand for megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import mlx.core as mx
import mlx.nn as nn
import numpy as np

PATH = Path(__file__).with_name("goldens.npz")
SUMS = 256


@dataclass(frozen=True)
class Output:
    """One array that a stage computed.

    largest: of the finite values, absolute.
    sketch: (256,) float32, its norm near the array's root mean square.
    """

    name: str
    finite: bool
    largest: float
    sketch: np.ndarray

    def error(self, golden: np.ndarray) -> float:
        """The L2 norm of the difference over that of the recorded output; infinite if NaN."""
        if not self.finite:
            return float("inf")
        return float(np.linalg.norm(self.sketch - golden) / np.linalg.norm(golden))


def output(name: str, array: mx.array | np.ndarray) -> Output:
    """The output of this name."""
    if isinstance(array, mx.array):
        array = np.array(array.astype(mx.float32))
    flat = array.ravel().astype(np.float64)
    finite = np.isfinite(flat)
    largest = float(np.abs(flat[finite]).max(initial=0.0))
    flat = np.where(finite, flat, 0)
    raw = np.random.Philox(key=flat.size).random_raw(-(-flat.size // 64))
    bits = (raw[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    signed = flat * (1.0 - 2.0 * bits.ravel()[: flat.size].astype(np.float64))
    padded = np.pad(signed, (0, -flat.size % SUMS)).reshape(-1, SUMS)
    sketch = padded.sum(axis=0) / np.sqrt(max(flat.size, 1))
    return Output(name, bool(finite.all()), largest, sketch.astype(np.float32))


class Recorder:
    """Outputs of a stage, in the order of their computation."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.exact: dict[str, np.ndarray] = {}

    def add(self, name: str, array: mx.array | np.ndarray) -> None:
        """Keep an output; it is evaluated here."""
        self.outputs.append(output(name, array))

    def add_ids(self, name: str, array: mx.array) -> None:
        """Keep integers as they are."""
        self.exact[name] = np.array(array).astype(np.int32)

    @contextmanager
    def watching(self, **classes: type[nn.Module]) -> Iterator[None]:
        """While it is open, keep the output of every call of these modules, numbered."""
        with ExitStack() as stack:
            for label, kind in classes.items():
                stack.enter_context(mock.patch.object(kind, "__call__", self._noted(kind, label)))
            yield

    def _noted(self, kind: type[nn.Module], label: str) -> object:
        original, count = kind.__call__, [0]

        def call(module: nn.Module, *args: object, **kwargs: object) -> object:
            result = original(module, *args, **kwargs)
            count[0] += 1
            assert isinstance(result, mx.array)
            self.add(f"{label} {count[0]}", result)
            return result

        return call


def load(path: Path = PATH) -> dict[str, np.ndarray]:
    """The recorded sketches and ids, by ``stage/output``."""
    with np.load(path) as arrays:
        return dict(arrays)
