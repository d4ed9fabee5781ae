"""Whole measurements: one utterance, or everything."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx

from ..loading.catalog import resolve
from ..loading.folder import LoadedModel, load
from ..synthesis.engine import default_cache_limit
from . import machine, measure, streaming
from .measure import Times, repeated
from .report import medians
from .workload import Workload, workload


def loads(folder: Path, repeats: int) -> tuple[LoadedModel, list[float]]:
    """The model, loaded so many times one after another, and the seconds of each."""
    mx.set_cache_limit(default_cache_limit())
    loaded, seconds = None, []
    for _ in range(repeats):
        loaded = None
        mx.clear_cache()
        started = time.perf_counter()
        loaded = load(folder)
        seconds.append(time.perf_counter() - started)
    mx.clear_cache()
    assert loaded is not None
    return loaded, seconds


def warm_up(loaded: LoadedModel) -> None:
    """Run a short utterance that is not timed.

    This evaluates the networks' computed tables, so that other threads can use them.
    """
    measure.utterance_times(loaded, workload(loaded.config, 0.4))


def brief(model: str | Path, seconds: float) -> dict[str, Any]:
    """One utterance, once: its times, and what memory it took."""
    peak = machine.ResidentPeak()
    with peak.watching():
        loaded, _ = loads(resolve(model), 1)
        weights = mx.get_active_memory()
        utterance = workload(loaded.config, seconds)
        stages = medians(measure.utterance_times(loaded, utterance))
    return _figures(loaded, utterance, stages, 1, weights, peak.bytes)


def own(model: str | Path, seconds: float, repeats: int) -> dict[str, Any]:
    """Everything about our side."""
    peak = machine.ResidentPeak()
    with peak.watching():
        loaded, loading = loads(resolve(model), 3)
        weights = mx.get_active_memory()
        utterance = workload(loaded.config, seconds)
        warm_up(loaded)

        times = repeated(lambda: measured(loaded, utterance, inside=True), repeats)
        stages = medians(times)
    figures = _figures(loaded, utterance, stages, repeats, weights, peak.bytes)
    t3 = loaded.networks.t3
    return {
        **figures,
        # The first may have found the files on the disk and not in memory.
        "load": min(loading),
        "decoding": decoding(loaded, utterance, times),
        "second_sentence": second_sentence(loaded, utterance, repeats),
        "streaming": streaming.streaming(loaded, utterance, repeats=min(repeats, 3)),
        "voice": medians(repeated(lambda: measure.voice_encoding(loaded), repeats)),
        "primitives": measure.primitives_per_step(t3, utterance),
    }


def _figures(
    loaded: LoadedModel,
    utterance: Workload,
    stages: dict[str, float],
    repeats: int,
    weights: int,
    resident: int,
) -> dict[str, Any]:
    return {
        "model": {
            "folder": loaded.folder.name,
            "family": loaded.family,
            "trained": loaded.trained,
            "dtype": str(loaded.dtype).rpartition(".")[2],
            "missing": dict(loaded.missing),
        },
        "machine": machine.describe(),
        "seconds": utterance.seconds,
        "repeats": repeats,
        "stages": stages,
        "real_time_factor": stages["whole"] / utterance.seconds,
        "memory": {
            "folder": (loaded.folder / "model.safetensors").stat().st_size,
            "weights": weights,
            "peak_arrays": mx.get_peak_memory(),
            "peak_resident": resident,
        },
    }


def measured(loaded: LoadedModel, utterance: Workload, *, inside: bool = False) -> Times:
    """One utterance by stage; ``memory`` is T3 decode as it would be if it only read the weights.

    The memory's speed is that of the same moment: machines that are shared have no other.
    """
    times = measure.utterance_times(loaded, utterance, inside=inside)
    bytes_read = measure.weight_bytes_per_step(loaded.networks.t3) * (utterance.decoded - 1)
    return {**times, "memory": [bytes_read / machine.bandwidth(loaded.dtype)]}


def decoding(loaded: LoadedModel, utterance: Workload, times: Times) -> dict[str, float]:
    """What :func:`measured` found of decoding, against the memory's speed."""
    t3 = loaded.networks.t3
    steps, weights = utterance.decoded - 1, measure.weight_bytes_per_step(t3)
    rate, bound = steps / median(times["T3 decode"]), steps / median(times["memory"])
    return {
        "tokens_per_second": rate,
        "milliseconds_per_token": 1e3 / rate,
        "weight_bytes": weights,
        "cache_bytes": measure.cache_bytes_per_step(t3, utterance, loaded.dtype),
        "bandwidth": bound * weights,
        "bound": bound,
        "share_of_bound": median(
            alone / spent for alone, spent in zip(times["memory"], times["T3 decode"], strict=True)
        ),
    }


def second_sentence(loaded: LoadedModel, utterance: Workload, repeats: int) -> float:
    """Time to the first token of a voice's second sentence, over that of its first."""
    t3 = loaded.networks.t3
    times = repeated(lambda: measure.second_sentence(t3, utterance), repeats)
    return median(b / a for a, b in zip(times["first"], times["second"], strict=True))
