"""The machine: what it is, how fast it reads memory, how much is in use."""

from __future__ import annotations

import io
import os
import platform
import re
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from unittest import mock

import mlx.core as mx
import numpy as np

from .. import ops
from ..ops import blas

_ROW_MATRICES, _ROW_WIDTH = 8, 4096
"""512 MiB of float32, more than any cache holds."""


def describe() -> dict[str, str]:
    """Device, processor, BLAS and versions, as text."""
    return {
        "device": _gpu_name() if ops.on_gpu() else f"CPU, {_cores()} cores",
        "processor": _processor(),
        "matrix products": blas.active(),
        "mlx": metadata.version("mlx"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _gpu_name() -> str:
    return str(mx.device_info().get("device_name", "GPU"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def bandwidth(dtype: mx.Dtype, *, passes: int = 5) -> float:
    """Bytes per second at which one-row products read their weights: the best of ``passes``.

    A row times matrices that exceed every cache: the same operation, by the same library, as a
    step of decoding.
    """
    row = mx.ones((_ROW_WIDTH,), dtype)
    matrices = [mx.full((_ROW_WIDTH, _ROW_WIDTH), 1 / (i + 1), dtype) for i in range(_ROW_MATRICES)]
    mx.eval(row, matrices)
    products = _on_device if ops.on_gpu() or dtype != mx.float32 else _on_host
    best = float("inf")
    for _ in range(passes):
        started = time.perf_counter()
        products(matrices, row)
        best = min(best, time.perf_counter() - started)
    size = sum(matrix.nbytes for matrix in matrices)
    del matrices
    mx.clear_cache()
    return size / best


def _on_device(matrices: list[mx.array], row: mx.array) -> None:
    mx.eval([matrix @ row for matrix in matrices])


def _on_host(matrices: list[mx.array], row: mx.array) -> None:
    for matrix in matrices:
        np.matmul(np.asarray(matrix), np.asarray(row))


class ResidentPeak:
    """The peak of this process's anonymous memory, sampled every few milliseconds.

    Outside Linux it is the system's own peak, which includes the pages of mapped files.
    """

    def __init__(self, *, every: float = 0.01) -> None:
        self._every, self._bytes = every, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While it is open, the peak may grow."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    @property
    def bytes(self) -> int:
        """The peak so far."""
        self._look()
        return self._bytes

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            self._look()

    def _look(self) -> None:
        self._bytes = max(self._bytes, _resident())


def _resident() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"RssAnon:\s*(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Primitives:
    """Counts the primitives of every graph that is dispatched with ``mx.async_eval``."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    @contextmanager
    def counting(self) -> Iterator[None]:
        """While it is open, each dispatch adds a count."""
        dispatch = mx.async_eval

        def count(*arrays: object) -> None:
            graph = io.StringIO()
            mx.export_to_dot(graph, *_flat(arrays))
            self.counts.append(graph.getvalue().count("shape=rectangle"))
            dispatch(*arrays)

        with mock.patch.object(mx, "async_eval", count):
            yield


def _flat(value: object) -> list[mx.array]:
    if isinstance(value, mx.array):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [array for item in items for array in _flat(item)]  # type: ignore[union-attr]
