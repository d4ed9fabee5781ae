"""Measured figures as tables of at most 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    yield "weights in memory", _mega(memory["weights"])
    yield "peak of MLX's arrays", _mega(memory["peak_arrays"])
    yield "peak of the process", _mega(memory["peak_resident"])


def _mega(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def against(ours: Times, peers: dict[str, Times], notes: dict[str, str]) -> str:
    """Our stages beside the peers', and how many times longer they take."""
    mine = medians(ours)
    lines = []
    for title, times in peers.items():
        theirs = medians(times)
        lines += [f"{'stage':20} {'ours, s':>10} {title + ', s':>30} {'times ours':>12}"]
        for name in (*STAGES, "whole"):
            factor = theirs[name] / mine[name]
            lines.append(f"{name:20} {mine[name]:10.2f} {theirs[name]:30.2f} {factor:11.2f}x")
        lines += [notes[title], ""] if title in notes else [""]
    return "\n".join(lines).rstrip()


@dataclass(frozen=True)
class Row:
    """A figure with what is asked of it: ``bound`` at least, ``aim`` if it can be had.

    reached: None where it could not be measured.
    upward: more is better.
    """

    what: str
    unit: str
    bound: float
    aim: float | None
    reached: float | None
    upward: bool

    @property
    def passed(self) -> bool:
        """Whether the bound is met."""
        if self.reached is None:
            return False
        return self.reached >= self.bound if self.upward else self.reached <= self.bound

    def cells(self) -> tuple[str, str, str, str, str]:
        """What, bound, aim, reached and mark, ready to print."""
        sign = "≥" if self.upward else "≤"

        def number(value: float | None) -> str:
            if value is None:
                return ""
            return f"{value:.0%}" if self.unit == "%" else f"{value:.3g} {self.unit}"

        mark = "missing" if self.reached is None else "ok" if self.passed else "MISSED"
        if self.passed and self.aim is not None and self.reached is not None:
            beyond = self.reached >= self.aim if self.upward else self.reached <= self.aim
            mark = "aim" if beyond else mark
        aim = "" if self.aim is None else f"{sign} {number(self.aim)}"
        return self.what, f"{sign} {number(self.bound)}", aim, number(self.reached), mark


def table(rows: Sequence[Row]) -> str:
    """Fixed width, for the terminal."""
    lines = [f"{'figure':42} {'at least':>9} {'aim':>9} {'reached':>9} {'':>7}"]
    for row in rows:
        what, bound, aim, reached, mark = row.cells()
        lines.append(f"{what:42.42} {bound:>9} {aim:>9} {reached:>9} {mark:>7}")
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
