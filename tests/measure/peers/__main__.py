"""``make benchmark-peers``: every figure of the model's speed, in one run.

Runs this package beside the PyTorch reference and mlx-audio 0.6.2 on the same weights, prints each
figure with its bound, and writes docs/performance.md with its plot. Needs an idle machine; on
two cores it takes about twelve minutes, ten more for the original, and ten for ``quantised``. Exits
with 1 when a figure misses its bound.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from mlx_audio_turbo.benchmark import machine, measure, runs, streaming
from mlx_audio_turbo.benchmark.lengths import by_length, lines
from mlx_audio_turbo.benchmark.measure import Times
from mlx_audio_turbo.benchmark.plot import save_plot
from mlx_audio_turbo.benchmark.report import STAGES, medians
from mlx_audio_turbo.benchmark.workload import Workload, workload
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import LoadedModel
from mlx_audio_turbo.presets import NANO, ORIGINAL, ORIGINAL_TYPE, TURBO

from ..folders import STORED, stored
from . import quantised
from .against import beside, ratio
from .plot import plot_stages
from .process import ROOT, kinds, ready
from .quantised import Quantised
from .rows import Row, markdown, table
from .together import chunk_growth, together, tokens_together

DOCUMENT = ROOT / "docs" / "performance.md"
PLOT, STAGE_PLOT = DOCUMENT.with_suffix(".png"), DOCUMENT.with_name("performance_stages.png")
BEGIN, END = "<!-- figures: made by `make benchmark-peers` -->", "<!-- end of figures -->"
README = ROOT / "README.md"
README_MARKS = "<!-- performance: made by `make benchmark-peers` -->", "<!-- end of performance -->"
SECONDS = 10.0
LENGTHS = (5.0, 10.0, 20.0, 40.0)
TURNS_NANO = 2
PARTS = ("reference", "ported", "second", "streamed", "together", "smaller", "long", "original")
PARTS += ("quantised",)
ALONE = ("original", "quantised")
"""Parts that need neither Turbo nor what the others found."""

ASKED: dict[str, tuple[str, str, float, float | None, bool]] = {
    "whole": ("10 s utterance: time, of the reference's", "x", 1.2, 0.8, False),
    "decode": ("T3 decode: speed, of the reference's", "x", 1.35, 1.7, True),
    "bound": ("T3 decode: share of the memory bound", "%", 0.75, 0.90, True),
    "audio": ("S3Gen + HiFT: time, of the reference's", "x", 3.0, 1.2, False),
    "same BLAS": ("10 s utterance: mlx-audio, same BLAS", "x", 6.0, 9.0, True),
    "as installed": ("10 s utterance: mlx-audio as installed", "x", 40.0, 80.0, True),
    "second": ("second sentence's first token, of 1st's", "x", 0.2, 0.1, False),
    "nano": ("Nano: time, of ours for Turbo", "x", 0.5, None, False),
    "growth": ("time per second of audio, 40 s / 10 s", "x", 1.6, None, False),
    "load": ("load of a float16 folder", "s", 3.0, 2.0, False),
    "memory": ("40 s: peak memory over the weights", "GB", 1.0, None, False),
    "first audio": ("first audio, of the whole's time", "x", 0.35, None, False),
    "streamed": ("streaming all, of the whole's time", "x", 2.5, None, False),
    "eight": ("T3 decode: 8 texts together, of one", "x", 2.0, 4.0, True),
    "eight whole": ("8 texts together: time, of in turn", "x", 0.75, 0.5, False),
    "chunk": ("chunk at 40 s, of the first as large", "x", 1.3, None, False),
    "original": ("original, 10 s: time, of the reference's", "x", 0.8, None, False),
    "original memory": ("original, 10 s: peak over the weights", "GB", 1.0, None, False),
}
"""Key: what, unit, at least, aim, and whether more is better."""


@dataclass
class Outcome:
    """What has been measured so far.

    times: of an utterance by stage, for each implementation; versions: what each of them runs.
    machine: processor and cores.
    nano: a sentence for the document.
    original: of the original as ``times``.
    quantised: the fields of :class:`~.quantised.Quantised`.
    """

    reached: dict[str, float] = field(default_factory=dict)
    times: dict[str, dict[str, float]] = field(default_factory=dict)
    versions: dict[str, Mapping[str, str]] = field(default_factory=dict)
    lengths: list[dict[str, Any]] = field(default_factory=list)
    decoding: dict[str, float] = field(default_factory=dict)
    primitives: int = 0
    machine: str = ""
    nano: str = ""
    original: dict[str, dict[str, float]] = field(default_factory=dict)
    quantised: dict[str, Any] = field(default_factory=dict)

    @property
    def by_reference(self) -> float | None:
        """The reference's seconds for the utterance."""
        return self.times.get("reference", {}).get("whole")

    def quantised_rows(self) -> list[Row]:
        """Every figure of the part ``quantised`` with its bound."""
        return Quantised(**self.quantised).rows(self.by_reference) if self.quantised else []

    def rows(self) -> list[Row]:
        """Every figure with its bound."""
        return [
            Row(what, unit, bound, aim, self.reached.get(key), upward)
            for key, (what, unit, bound, aim, upward) in ASKED.items()
        ]


@dataclass
class Bench:
    """The folder of the work, checkpoints in it or elsewhere, and the model under test."""

    work: Path
    checkpoints: Mapping[str, Path | None]
    repeats: int
    outcome: Outcome

    @cached_property
    def checkpoint(self) -> Path:
        """Turbo's."""
        return self.checkpoints["turbo"] or ready(self.work / "turbo", TURBO)

    @cached_property
    def loaded(self) -> LoadedModel:
        """Turbo."""
        # Thrice: the first may have found the files on the disk and not in memory.
        loaded, seconds = runs.loads(resolve(self.checkpoint), 3)
        self.outcome.reached["load"] = min(seconds)
        runs.warm_up(loaded)
        return loaded

    @cached_property
    def utterance(self) -> Workload:
        """Ten seconds of Turbo's."""
        return workload(self.loaded.config, SECONDS)

    def reference(self) -> None:
        """Ours and the reference in turn, and the memory's speed right after."""
        out = self.outcome
        ours, theirs, versions = beside(
            "reference", self.checkpoint, self.loaded, self.utterance, self.repeats
        )
        out.reached["whole"] = ratio(ours, theirs, "whole")
        out.reached["decode"] = ratio(theirs, ours, "T3 decode")
        out.reached["audio"] = ratio(ours, theirs, "S3Gen", "HiFT")
        self._keep("reference", theirs, versions)
        self._keep("ours", ours, {})
        out.decoding = runs.decoding(self.loaded, self.utterance, ours)
        out.reached["bound"] = out.decoding["share_of_bound"]

    def ported(self) -> None:
        """mlx-audio, with our BLAS and as installed."""
        ours = self.outcome.times["ours"]["whole"]
        for name, key in (("mlx-audio", "same BLAS"), ("mlx-audio-as-installed", "as installed")):
            _, theirs, versions = beside(name, self.checkpoint, self.loaded, self.utterance, 1)
            self._keep(name, theirs, versions)
            self.outcome.reached[key] = theirs["whole"][0] / ours

    def second(self) -> None:
        """The second sentence of a voice; what a step of decoding is made of."""
        t3 = self.loaded.networks.t3
        self.outcome.reached["second"] = runs.second_sentence(
            self.loaded, self.utterance, self.repeats
        )
        self.outcome.primitives = measure.primitives_per_step(t3, self.utterance)

    def streamed(self) -> None:
        """The first audio, all of it, and what the last chunk costs."""
        reached, loaded = self.outcome.reached, self.loaded
        stream = streaming.streaming(loaded, self.utterance, repeats=1)
        reached["first audio"] = stream["first_audio"] / stream["whole"]
        reached["streamed"] = stream["streamed"] / stream["whole"]
        longest = workload(loaded.config, max(LENGTHS))
        reached["chunk"] = chunk_growth(loaded, longest)

    def together(self) -> None:
        """Eight texts at a time."""
        alone, eight = (
            tokens_together(self.loaded.networks.t3, self.utterance, rows=rows, tokens=50)
            for rows in (1, 8)
        )
        self.outcome.reached["eight"] = eight / alone
        self.outcome.reached["eight whole"] = together(self.loaded, self.utterance)

    def smaller(self) -> None:
        """Nano, ours in turn with the reference's."""
        checkpoint = self.checkpoints["nano"] or ready(self.work / "nano", NANO)
        nano, _ = runs.loads(resolve(checkpoint), 1)
        utterance = workload(nano.config, SECONDS)
        ours, theirs, _ = beside("reference", checkpoint, nano, utterance, TURNS_NANO)
        seconds, reference = median(ours["whole"]), median(theirs["whole"])
        self.outcome.reached["nano"] = seconds / self.outcome.times["ours"]["whole"]
        self.outcome.nano = (
            f"Nano speaks 10 s in {seconds:.1f} s (real-time factor {seconds / SECONDS:.2f}), "
            f"the reference's Nano in {reference:.1f} s; we take "
            f"{ratio(ours, theirs, 'whole'):.2f} of its time."
        )

    def long(self) -> None:
        """Time and memory by length, each in a process of its own."""
        runs_by_length = by_length(str(self.loaded.folder), LENGTHS)
        each = {run["seconds"]: run for run in runs_by_length}
        factor = {seconds: each[seconds]["real_time_factor"] for seconds in (10.0, 40.0)}
        self.outcome.reached["growth"] = factor[40.0] / factor[10.0]
        memory = each[40.0]["memory"]
        over = memory["peak_resident"] - memory["weights"]
        self.outcome.reached["memory"] = over / 1e9
        self.outcome.lengths = runs_by_length

    def original(self) -> None:
        """The original, ours in turn with the reference's; our memory in its own process."""
        given = self.checkpoints["original"]
        checkpoint = given or ready(self.work / "original", ORIGINAL, ORIGINAL_TYPE)
        folder = resolve(checkpoint)
        (run,) = by_length(str(folder), [SECONDS])
        over = run["memory"]["peak_resident"] - run["memory"]["weights"]
        loaded, _ = runs.loads(folder, 1)
        utterance = workload(loaded.config, SECONDS)
        ours, theirs, _ = beside("reference", checkpoint, loaded, utterance, self.repeats)
        self.outcome.reached["original"] = ratio(ours, theirs, "whole")
        self.outcome.reached["original memory"] = over / 1e9
        self.outcome.original = {"ours": medians(ours), "reference": medians(theirs)}

    def quantised(self) -> None:
        """Turbo and Nano by how a folder stores T3's weights."""
        nano = self.checkpoints["nano"] or ready(self.work / "nano", NANO)
        folders = {kind: stored(self.checkpoint, kind, work=self.work) for kind in STORED}
        folders[quantised.NANO] = stored(nano, "8 bits", work=self.work)
        self.outcome.quantised = asdict(quantised.measure(folders, repeats=self.repeats))

    def _keep(self, name: str, times: Times, versions: Mapping[str, str]) -> None:
        self.outcome.times[name] = medians(times)
        self.outcome.versions[name] = versions


def document(outcome: Outcome, repeats: int) -> str:
    """The generated part of docs/performance.md."""
    titles = _titles()
    there = [name for name in titles if name in outcome.times]
    step = outcome.decoding
    parts = [
        "; ".join(f"{name}: {value}" for name, value in machine.describe().items()) + ".",
        markdown(
            ["figure", "at least", "aim", "reached", ""], [row.cells() for row in outcome.rows()]
        ),
        f"Ten seconds of speech (250 tokens, 10 s of prompt), medians of {repeats}:",
        _stages(outcome.times),
        f"![Time by stage of each implementation]({STAGE_PLOT.name})",
    ]
    parts += [
        f"{titles[name]}: {', '.join(f'{k} {v}' for k, v in outcome.versions[name].items())}."
        for name in there
        if outcome.versions.get(name)
    ]
    if step:
        parts.append(
            f"A token reads {step['weight_bytes'] / 1e6:,.0f} MB of weights and "
            f"{step['cache_bytes'] / 1e6:,.0f} MB of keys and values. Memory gave "
            f"{step['bandwidth'] / 1e9:.1f} GB/s in the same run, which for the weights alone "
            f"means {step['bound']:.1f} tokens per second; {step['tokens_per_second']:.1f} were "
            "reached."
        )
    if outcome.nano:
        parts.append(outcome.nano)
    if outcome.original:
        parts.append("The same of the original, with guidance and ten steps of the flow:")
        parts.append(_stages(outcome.original))
    if outcome.quantised:
        parts.append(quantised.document(Quantised(**outcome.quantised), outcome.by_reference))
    if outcome.lengths:
        parts.append(f"```\n{lines(outcome.lengths)}\n```")
        parts.append(f"![Time and memory by the length of the audio]({PLOT.name})")
    return "\n\n".join(parts)


def _titles() -> dict[str, str]:
    return {"ours": "this package", **{name: kind.title for name, kind in kinds().items()}}


def _stages(times: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each stage, a column for each implementation."""
    there = {name: title for name, title in _titles().items() if name in times}
    cells = [[stage, *(f"{times[n][stage]:.2f}" for n in there)] for stage in (*STAGES, "whole")]
    cells.append(["real-time factor", *(f"{times[n]['whole'] / SECONDS:.2f}" for n in there)])
    return markdown(["seconds", *there.values()], cells)


def short(outcome: Outcome) -> str:
    """The generated part of README.md: a row for each implementation."""
    kept, reached = outcome.times, outcome.reached
    titles = _titles()
    rows = [
        [
            titles[name],
            *(f"{kept[name][stage]:.1f} s" for stage in STAGES),
            f"{kept[name]['whole']:.1f} s",
            f"{kept[name]['whole'] / SECONDS:.1f}",
        ]
        for name in titles
        if name in kept
    ]
    parts = [
        f"Ten seconds of speech on a CPU ({outcome.machine}) after a prompt of ten. This package\n"
        "reads T3's float16 weights as the folder stores them, the others read float32. All\n"
        "arithmetic is float32.",
        markdown(["", *STAGES, "whole", "real-time factor"], rows),
    ]
    if "first audio" in reached:
        said = (
            f"The first audio of a stream is ready after {reached['first audio']:.0%} of that "
            f"time. Loading takes {reached['load']:.1f} s. Speaking 40 s takes at most "
            f"{reached['memory']:.1f} GB of memory on top of the weights."
        )
        parts.append(textwrap.fill(said, 100))
    parts.append("All figures and how to measure them: [performance](docs/performance.md).")
    return "\n\n".join(parts)


def write(path: Path, begin: str, end: str, text: str) -> None:
    """Put the text between the two marks of the page."""
    before, rest = path.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make benchmark-peers", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".parity", help="%(default)s")
    parser.add_argument("--checkpoint", type=Path, help="Turbo, upstream layout; random by default")
    parser.add_argument("--nano", type=Path, help="Nano, upstream layout; random by default")
    parser.add_argument("--original", type=Path, help="the original, likewise")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many (5)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--keep", action="store_true", help="keep what the last run found in the other parts"
    )
    parser.add_argument("--dry", action="store_true", help="leave the document as it is")
    args = parser.parse_args()
    logging.getLogger("mlx_audio_turbo").setLevel(logging.ERROR)

    started = time.perf_counter()
    kept = args.work / "performance.json"
    outcome = Outcome(**json.loads(kept.read_text())) if args.keep and kept.exists() else Outcome()
    described = machine.describe()
    outcome.machine = f"{described['processor']}, {described['device'].removeprefix('CPU, ')}"
    alone = {*args.parts} <= {*ALONE} or "reference" in args.parts
    if not alone and "ours" not in outcome.times:
        parser.error("the other parts are compared with `reference`: name it too, or --keep it")
    given = {"turbo": args.checkpoint, "nano": args.nano, "original": args.original}
    bench = Bench(args.work, given, args.repeats, outcome)
    for part in args.parts:
        run: Callable[[], None] = getattr(bench, part)
        begun = time.perf_counter()
        run()
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(outcome)))
        print(f"{part}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print(table(outcome.rows()))
    if outcome.quantised:
        print(table(outcome.quantised_rows()))
    print(f"{time.perf_counter() - started:.0f} s in all")
    if "ours" not in outcome.times:
        print("the pages are left as they are: the part `reference` has not run", file=sys.stderr)
    elif not args.dry:
        write(DOCUMENT, BEGIN, END, document(outcome, args.repeats))
        write(README, *README_MARKS, short(outcome))
        every = (*STAGES, "whole")
        plot_stages(outcome.times, _titles(), every, seconds=SECONDS, path=STAGE_PLOT)
        if outcome.lengths:
            save_plot(outcome.lengths, PLOT)
    return 0 if all(row.passed for row in outcome.rows() + outcome.quantised_rows()) else 1


if __name__ == "__main__":
    sys.exit(main())
