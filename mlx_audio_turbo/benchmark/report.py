"""Measured figures as tables of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from .measure import Times

STAGES = ("T3 prefill", "T3 decode", "S3Gen", "HiFT")
"""What an utterance is made of, once the voice is there."""


def medians(times: Times) -> dict[str, float]:
    """The median of every list."""
    return {name: median(seconds) for name, seconds in times.items()}


def own(figures: dict[str, Any]) -> str:
    """Our figures, as the command's ``--json`` has them, whole or brief."""
    model, machine = figures["model"], figures["machine"]
    lines = [
        f"{figures['seconds']:.1f} s of speech, medians of {figures['repeats']}",
        f"{'model':16} {model['family']} ({model['folder']}), {model['dtype']}",
        *(f"{name:16} {value}" for name, value in machine.items()),
        "",
        f"{'stage':34} {'seconds':>9} {'share':>7}",
    ]
    stages, whole = figures["stages"], figures["stages"]["whole"]
    indented = {"encoder": "  encoder", "estimator step": "  estimator, each of its steps"}
    for name in ("T3 prefill", "T3 decode", "S3Gen", *indented, "HiFT", "whole"):
        if name in stages:
            label = indented.get(name, name)
            lines.append(f"{label:34} {stages[name]:9.3f} {stages[name] / whole:7.0%}")
    if "voice" in figures:
        lines += ["", f"{'a voice of a 15 s clip':34} {'seconds':>9}"]
        lines += [f"  {name:32} {seconds:9.3f}" for name, seconds in figures["voice"].items()]
        lines += [f"  not in the folder: {name}" for name in model["missing"]]
    lines += [""] + [f"{name:34} {value}" for name, value in _pairs(figures)]
    return "\n".join(line[:80] for line in lines)


def _pairs(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "real-time factor", f"{figures['real_time_factor']:.2f}"
    if "decoding" in figures:
        step, stream = figures["decoding"], figures["streaming"]
        yield "tokens per second", f"{step['tokens_per_second']:.1f}"
        yield "milliseconds per token", f"{step['milliseconds_per_token']:.1f}"
        yield "primitives per token", f"{figures['primitives']}"
        yield "read per token", f"{_mega(step['weight_bytes'])} of weights"
        yield "", f"{_mega(step['cache_bytes'])} of keys and values"
        yield "memory reads at", f"{step['bandwidth'] / 1e9:.1f} GB/s in one-row products"
        yield "tokens per second if only that", f"{step['bound']:.1f}"
        yield "share of that bound", f"{step['share_of_bound']:.0%}"
        yield "first audio", f"{stream['first_audio']:.2f} s of {stream['whole']:.2f} s"
        yield "streamed whole", f"{stream['streamed']:.2f} s in {stream['chunks']} chunks"
        share = figures["second_sentence"]
        yield "second sentence, first token", f"{share:.2f} of the first's time"
        yield "load", f"{figures['load']:.2f} s, files in the page cache"
    memory = figures["memory"]
    yield "weights on disk", _mega(memory["folder"])
    yield "weights in memory", _mega(memory["weights"])
    yield "peak of MLX's arrays", _mega(memory["peak_arrays"])
    yield "peak of the process", _mega(memory["peak_resident"])


def _mega(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
