"""All checks in turn, as findings."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from .. import ops
from ..benchmark import machine
from ..config import ModelConfig
from ..errors import TurboError
from ..files.paths import cache_folder
from ..ops import blas, cuda_kernels
from ..presets import TURBO
from . import folder, goldens, growing
from .goldens import Output, Recorder
from .kernels import KERNELS
from .speed import speed
from .stages import STAGES

BOUNDS = {mx.float32: 1e-4, mx.float16: 5e-3, mx.bfloat16: 3e-2}
"""On the relative error of an output; ten times and more what correct arithmetic gives."""
KERNEL_BOUNDS = {mx.float32: 1e-5, mx.float16: 3e-3, mx.bfloat16: 2e-2}
OWN_BOUNDS = {
    "HiFT source": 1e-3,  # the sine of angles of many turns
    "sampling": 2e-2,  # one id more or less at the border of a filter
}
ID_BOUNDS = {mx.float32: 0.99, mx.float16: 0.9, mx.bfloat16: 0.9}
"""On the share of equal ids."""
CHECKS = ("kernels", *STAGES, "growing utterances", "speed")
HALF_FREE = ("front ends", "sampling", "HiFT F0", "HiFT source", "HiFT")
"""Stages that compute in float32 whatever the model's precision is."""
SLOWER, MORE_MEMORY = 4.0, 64 << 20
"""Bounds on growth: of the time per token of long utterances, and of live arrays in bytes."""
PACKAGES = ("mlx", "numpy", "safetensors", "huggingface_hub", "tokenizers", "soundfile", "soxr")
FAULTS = (TurboError, RuntimeError, ValueError, TypeError, IndexError, AssertionError, MemoryError)
"""What a stage may raise; the stage is then reported as failed."""


@dataclass(frozen=True)
class Finding:
    """One figure of a stage.

    bound: what the figure is held against; None for a figure that is only reported.
    passed: whether it holds.
    note: an error's message, or a unit.
    """

    stage: str
    what: str
    figure: float | None
    bound: float | None
    passed: bool
    note: str = ""


@dataclass
class Report:
    """What was found; ``as_dict`` is the JSON of the command."""

    machine: dict[str, Any]
    findings: list[Finding] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    growth: dict[str, Any] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def failed(self) -> list[str]:
        """The stages with a figure out of its bound, in order."""
        return list(dict.fromkeys(each.stage for each in self.findings if not each.passed))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; figures that are not finite become text."""
        values = {"format": 1, "passed": not self.failed, "failed": self.failed, **asdict(self)}
        return _plain(values)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def describe(model: Path | None = None) -> dict[str, Any]:
    """The machine, its limits, the versions, and the model folders."""
    limits = mx.device_info() if ops.on_gpu() else {}
    cached = sorted(path.parent.name for path in cache_folder().glob("*/config.json"))
    return {
        **machine.describe(),
        "release": platform.mac_ver()[0] or platform.release(),
        "limits": {key: value for key, value in limits.items()},
        "packages": {name: _version(name) for name in ("mlx-audio-turbo", *PACKAGES)},
        "environment": {
            key: value
            for key, value in sorted(os.environ.items())
            if key.startswith(("MLX_", "OMP_NUM", "OPENBLAS_")) and os.sep not in value
        },
        "model": model.name if model else None,
        "cached models": cached,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def precisions() -> tuple[mx.Dtype, ...]:
    """Float32, and on a GPU the half precision that models run in."""
    return (mx.float32, mx.float16) if ops.on_gpu() else (mx.float32,)


def examine(
    *,
    model: Path | None = None,
    only: Collection[str] | None = None,
    sizes: ModelConfig = TURBO,
    progress: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Run every check.

    Args:
        model: a model folder to check too.
        only: names of the checks to run, of :data:`CHECKS`; None for all.
        sizes: of the networks that are timed.
        progress: called with the name of each stage before it runs.
    """
    started = time.perf_counter()
    blas.load()
    cuda_kernels.keep_compiled()
    report = Report(describe(model))
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("kernels", _kernels),
        *((name, lambda name=name: _stage(report, name)) for name in STAGES),
    ]
    checks.append(("growing utterances", lambda: _growing(report)))
    checks.append(("speed", lambda: _speed(report, sizes)))
    if model is not None:
        checks.append(("model folder", lambda: _folder(report, model)))
    for stage, check in checks:
        if only is not None and stage not in only and stage != "model folder":
            continue
        progress(stage)
        try:
            report.findings += check()
        except FAULTS as error:
            note = f"{type(error).__name__}: {error}"
            report.findings.append(Finding(stage, "runs", None, None, False, note))
        mx.clear_cache()
    report.seconds = time.perf_counter() - started
    return report


def _kernels() -> Iterator[Finding]:
    for name, kernel in KERNELS.items():
        for dtype in precisions():
            error, bound = kernel.error(dtype), KERNEL_BOUNDS[dtype]
            yield Finding("kernels", f"{name}, {_name(dtype)}", error, bound, error <= bound)


def _stage(report: Report, stage: str) -> Iterator[Finding]:
    golden = goldens.load()
    for dtype in precisions():
        if dtype != mx.float32 and stage in HALF_FREE:
            continue
        record = Recorder()
        STAGES[stage](record, dtype)
        bound = OWN_BOUNDS.get(stage, BOUNDS[dtype])
        for output in record.outputs:
            error = output.error(golden[f"{stage}/{output.name}"])
            report.blocks.append(_block(stage, output, dtype, error))
            what = f"{output.name}, {_name(dtype)}"
            yield Finding(stage, what, error, bound, error <= bound)
        for name, ids in record.exact.items():
            share = float(np.mean(ids == golden[f"{stage}/{name}"]))
            least = ID_BOUNDS[dtype]
            yield Finding(stage, f"{name} equal, {_name(dtype)}", share, least, share >= least)


def _block(
    stage: str, output: Output, dtype: mx.Dtype | None, error: float | None
) -> dict[str, Any]:
    return {
        "stage": stage,
        "block": output.name,
        "dtype": dtype and _name(dtype),
        "finite": output.finite,
        "largest": output.largest,
        "error": error,
    }


def _growing(report: Report) -> Iterator[Finding]:
    stage, found = "growing utterances", growing.grow(dtype=precisions()[-1])
    report.growth = asdict(found)
    yield Finding(stage, "all samples finite", float(found.finite), 1.0, found.finite)
    slower = found.per_token
    yield Finding(stage, "time per token, late over middle", slower, SLOWER, slower <= SLOWER)
    more = found.active
    yield Finding(stage, "live arrays, growth in bytes", more, MORE_MEMORY, more <= MORE_MEMORY)
    yield Finding(stage, "peak of arrays in bytes", found.peak, None, True)
    yield Finding(stage, "distinct shapes of MLX's kernels", found.shapes, None, True)


def _speed(report: Report, sizes: ModelConfig) -> Iterator[Finding]:
    found = speed(sizes, dtype=precisions()[-1])
    report.speed = asdict(found)
    for what, figure in (
        ("milliseconds per token", found.milliseconds_per_token),
        ("milliseconds per token if only memory counted", found.bound),
        ("share of the memory bound", found.share),
        ("real-time factor", found.real_time_factor),
    ):
        yield Finding("speed", what, figure, None, True)


def _folder(report: Report, model: Path) -> Iterator[Finding]:
    loaded, stage = folder.open_folder(model), "model folder"
    bad = [each.name for each in folder.weights(loaded) if not each.finite]
    note = ", ".join(bad[:3])
    yield Finding(stage, "tensors that are not finite", float(len(bad)), 0.0, not bad, note)
    for output in folder.blocks(loaded):
        report.blocks.append(_block(stage, output, loaded.dtype, None))
        yield Finding(stage, f"{output.name}, largest", output.largest, None, output.finite)


def _name(dtype: mx.Dtype) -> str:
    return str(dtype).rpartition(".")[2]
