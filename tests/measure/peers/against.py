"""Ours and other implementations in turn, on the same weights and inputs.

Run: ``python -m tests.measure.peers.against reference mlx-audio``, or
``make benchmark AGAINST="reference mlx-audio"``.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from mlx_audio_turbo.benchmark import machine
from mlx_audio_turbo.benchmark.measure import Times, repeated
from mlx_audio_turbo.benchmark.report import STAGES, medians
from mlx_audio_turbo.benchmark.runs import loads, measured, warm_up
from mlx_audio_turbo.benchmark.workload import Workload, workload
from mlx_audio_turbo.errors import TurboError
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import LoadedModel
from mlx_audio_turbo.ops import blas
from mlx_audio_turbo.presets import TURBO

from .process import ROOT, Peer, kinds, ready

SCALED = {"mlx-audio": 100, "mlx-audio-as-installed": 12}
"""Peers too slow to wait for, and on how many tokens they are measured."""


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

    A slow peer is measured once, alone.
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


def in_turn(measures: Sequence[Callable[[], Times]], repeats: int) -> list[Times]:
    """A B A B …: each measure's times over all rounds."""
    results: list[Times] = [{} for _ in measures]
    for _ in range(repeats):
        for result, measure in zip(results, measures, strict=True):
            for name, seconds in measure().items():
                result.setdefault(name, []).extend(seconds)
    return results


def ratio(a: Times, b: Times, *names: str) -> float:
    """The median over rounds of a's seconds in ``names`` over b's, round by round."""
    rounds = min(len(times[name]) for times in (a, b) for name in names)
    return median(
        sum(a[name][i] for name in names) / sum(b[name][i] for name in names) for i in range(rounds)
    )


def compared(
    names: Sequence[str], model: str | Path, checkpoint: Path, seconds: float, repeats: int
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


def table(ours: Times, peers: dict[str, Times], notes: dict[str, str]) -> str:
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison; gives the exit code."""
    parser = argparse.ArgumentParser(prog="tests.measure.peers.against", description=__doc__)
    parser.add_argument("peers", nargs="+", choices=tuple(kinds()))
    parser.add_argument("--model", help="our folder (default: converted from the checkpoint)")
    parser.add_argument("--checkpoint", type=Path, help="upstream layout; random by default")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio (10)")
    parser.add_argument("--repeats", type=int, default=5, help="medians of N (5)")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    args = parser.parse_args(argv)
    logging.getLogger("mlx_audio_turbo").setLevel(logging.ERROR)
    try:
        checkpoint = args.checkpoint or ready(ROOT / ".parity" / "turbo", TURBO)
        figures = compared(
            args.peers, args.model or checkpoint, checkpoint, args.seconds, args.repeats
        )
    except TurboError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
    else:
        print(table(figures["ours"], figures["peers"], figures["notes"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
