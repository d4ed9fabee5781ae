"""Whole measurements: our own side, and ours in turn with other implementations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx

from ..loading.catalog import resolve
from ..loading.folder import LoadedModel, load
from ..ops import blas
from ..synthesis.engine import default_cache_limit
from . import machine, measure, streaming
from .measure import Times, repeated
from .peers import Peer, in_turn, kinds
from .report import medians
from .workload import Workload, workload

SCALED = {"mlx-audio": 100, "mlx-audio-as-installed": 12}
"""Peers too slow to wait for, and on how many tokens they are measured."""


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
    """A short utterance, which nobody times.

    It also settles the networks' computed tables, which other threads then can use.
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
        },
        "machine": machine.describe(),
        "seconds": utterance.seconds,
        "repeats": repeats,
        "stages": stages,
        "real_time_factor": stages["whole"] / utterance.seconds,
        "memory": {
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


@contextmanager
def peer(name: str, checkpoint: Path, utterance: Workload) -> Iterator[Peer]:
    """A peer that is ready for this utterance."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "workload.npz")
        utterance.save(inputs)
        with Peer(kinds()[name], checkpoint, inputs, blas.library()) as running:
            yield running


def beside(
    name: str, checkpoint: Path, loaded: LoadedModel, utterance: Workload, repeats: int
) -> tuple[Times, Times, dict[str, str]]:
    """Ours and a peer's times in turn, and what the peer runs.

    A slow peer is measured once and alone, so that ours are as often as asked.
    """
    with peer(name, checkpoint, utterance) as other:
        if name in SCALED:
            theirs = other.scaled(utterance, tokens=SCALED[name])
            return {}, theirs, other.versions
        warm_up(loaded)
        other.utterance(4, 8, 8, 8)
        ours, theirs = in_turn(
            [lambda: measured(loaded, utterance), lambda: other.whole(utterance)],
            repeats,
        )
        return ours, theirs, other.versions


def against(
    names: Sequence[str], model: Path, checkpoint: Path, seconds: float, repeats: int
) -> dict[str, Any]:
    """Ours and some peers, each on the same weights: ``model`` converted from ``checkpoint``."""
    loaded, _ = loads(resolve(model), 1)
    utterance = workload(loaded.config, seconds)
    ours: Times = {}
    theirs, versions, notes = {}, {}, {}
    for name in names:
        title = kinds()[name].title
        mine, theirs[title], versions[title] = beside(name, checkpoint, loaded, utterance, repeats)
        ours = mine or ours
        if name in SCALED:
            notes[title] = (
                f"Measured on {SCALED[name]} tokens behind a prompt of {SCALED[name]}, and scaled "
                "up in\nproportion to the length, which flatters it: attention grows faster."
            )
    if not ours:
        warm_up(loaded)
        ours = repeated(lambda: measured(loaded, utterance), repeats)
    return {
        "machine": machine.describe(),
        "versions": versions,
        "seconds": utterance.seconds,
        "repeats": repeats,
        "ours": ours,
        "peers": theirs,
        "notes": notes,
    }
