"""How the type of T3's stored weights changes speed and memory: the part ``quantised``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from mlx_audio_turbo.benchmark import runs, streaming
from mlx_audio_turbo.benchmark.lengths import by_length
from mlx_audio_turbo.benchmark.measure import Times
from mlx_audio_turbo.benchmark.workload import Workload, workload
from mlx_audio_turbo.loading.folder import LoadedModel

from .. import start
from .against import in_turn, ratio
from .rows import Row, markdown
from .together import together, tokens_together

SECONDS = 10.0
BATCHES = (1, 2, 4, 8, 16)
BATCH_TOKENS = 50
PLAIN, EIGHT, FOUR, NANO = "float32", "8 bits", "4 bits", "Nano, 8 bits"

ASKED: dict[str, tuple[str, str, float, float | None, bool]] = {
    "decode 8": ("T3 decode, 8 bits, of float32's speed", "x", 2.2, 3.5, True),
    "decode 4": ("T3 decode, 4 bits, of float32's speed", "x", 2.2, 4.5, True),
    "bound": ("T3 decode, float32: share of its bound", "%", 0.80, 0.90, True),
    "whole 8": ("10 s, 8 bits: time, of the reference's", "x", 0.40, 0.28, False),
    "whole 32": ("10 s, float32: time, of the reference's", "x", 0.55, 0.45, False),
    "factor 8": ("8 bits: real-time factor", "", 1.0, 0.75, False),
    "factor nano": ("Nano, 8 bits: real-time factor", "", 0.7, 0.45, False),
    "first audio": ("8 bits: first audio, of the whole's time", "x", 0.25, 0.15, False),
    "streamed": ("8 bits: streaming all, of the whole's", "x", 1.5, 1.25, False),
    "second": ("8 bits: 2nd sentence's 1st token, of 1st's", "x", 0.12, 0.08, False),
    "eight": ("8 bits: 8 texts together, of in turn", "x", 0.60, 0.45, False),
    "memory": ("8 bits: peak memory over the file", "GB", 0.9, 0.5, False),
    "start": ("8 bits: command to 1st audio, saved voice", "s", 4.0, 2.5, False),
}
"""Key: what, unit, at least, aim, and whether more is better."""
_COMPARED = {"whole 8": EIGHT, "whole 32": PLAIN}
"""Figures that need the reference's time."""


@dataclass
class Quantised:
    """What has been measured.

    kinds: for each kind of folder its figures, as ``figures`` of :func:`measure` names them.
    batches: for each number of rows its tokens a second, of the 8-bit folder.
    """

    reached: dict[str, float] = field(default_factory=dict)
    kinds: dict[str, dict[str, float]] = field(default_factory=dict)
    batches: dict[str, float] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)

    def rows(self, reference: float | None) -> list[Row]:
        """Every figure with its bound.

        Args:
            reference: the reference's time for the utterance, in seconds.
        """
        reached: dict[str, float] = dict(self.reached)
        for key, kind in _COMPARED.items():
            if reference and kind in self.kinds:
                reached[key] = self.kinds[kind]["whole"] / reference
        return [
            Row(what, unit, bound, aim, reached.get(key), upward)
            for key, (what, unit, bound, aim, upward) in ASKED.items()
        ]


def measure(
    folders: Mapping[str, Path], *, repeats: int, seconds: float = SECONDS, start_repeats: int = 3
) -> Quantised:
    """All figures of these folders; the kinds take turns.

    Args:
        folders: by kind: :data:`PLAIN`, :data:`EIGHT`, :data:`FOUR`, :data:`NANO` and others.
    """
    found = Quantised()
    # First, while this process takes little memory.
    memory = {kind: _over_the_file(folder, seconds) for kind, folder in folders.items()}
    found.start = start.medians(folders[EIGHT], repeats=start_repeats)
    models = {kind: runs.loads(folder, 1)[0] for kind, folder in folders.items()}
    work = {kind: workload(model.config, seconds) for kind, model in models.items()}
    for model in models.values():
        runs.warm_up(model)
    times = dict(zip(models, _in_turn(models, work, repeats), strict=True))
    for kind, model in models.items():
        stream = streaming.streaming(model, work[kind], repeats=min(repeats, 3))
        decoding = runs.decoding(model, work[kind], times[kind])
        whole = median(times[kind]["whole"])
        found.kinds[kind] = {
            **{stage: median(values) for stage, values in times[kind].items()},
            "tokens a second": decoding["tokens_per_second"],
            "share of its bound": decoding["share_of_bound"],
            "real-time factor": whole / seconds,
            "first audio": stream["first_audio"],
            "streamed": stream["streamed"] / stream["whole"],
            "first audio, of whole": stream["first_audio"] / stream["whole"],
            "over the file": memory[kind],
        }
        if "Nano" not in kind:
            speed = ratio(times[PLAIN], times[kind], "T3 decode")
            found.kinds[kind]["of float32's speed"] = speed
    eight, utterance = models[EIGHT], work[EIGHT]
    found.batches = {
        str(rows): tokens_together(
            eight.networks.t3, utterance, rows=rows, tokens=min(BATCH_TOKENS, utterance.decoded)
        )
        for rows in BATCHES
    }
    kinds = found.kinds
    found.reached = {
        "decode 8": kinds[EIGHT]["of float32's speed"],
        "decode 4": kinds[FOUR]["of float32's speed"],
        "bound": kinds[PLAIN]["share of its bound"],
        "factor 8": kinds[EIGHT]["real-time factor"],
        "factor nano": kinds[NANO]["real-time factor"],
        "first audio": kinds[EIGHT]["first audio, of whole"],
        "streamed": kinds[EIGHT]["streamed"],
        "second": runs.second_sentence(eight, utterance, repeats),
        "eight": together(eight, utterance),
        "memory": kinds[EIGHT]["over the file"],
        "start": found.start["first audio"],
    }
    return found


def _in_turn(
    models: Mapping[str, LoadedModel], work: Mapping[str, Workload], repeats: int
) -> list[Times]:
    return in_turn(
        [
            lambda model=model, kind=kind: runs.measured(model, work[kind])
            for kind, model in models.items()
        ],
        repeats,
    )


def _over_the_file(folder: Path, seconds: float) -> float:
    """Gigabytes of a process that speaks once, over the size of the folder's weights."""
    (run,) = by_length(str(folder), [seconds])
    return (run["memory"]["peak_resident"] - run["memory"]["folder"]) / 1e9


_COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("T3 decode, s", "T3 decode", ".2f"),
    ("× float32", "of float32's speed", ".2f"),
    ("share of its bound", "share of its bound", ".0%"),
    ("whole, s", "whole", ".2f"),
    ("real-time factor", "real-time factor", ".2f"),
    ("first audio, s", "first audio", ".2f"),
    ("streamed, × whole", "streamed", ".2f"),
    ("peak over the file, GB", "over the file", ".2f"),
)


def document(found: Quantised, reference: float | None) -> str:
    """The figures as a part of docs/performance.md."""
    rows = [
        [kind, *(format(each[key], form) if key in each else "" for _, key, form in _COLUMNS)]
        for kind, each in found.kinds.items()
    ]
    alone = found.batches["1"]
    batches = [
        [rows, f"{speed:.0f}", f"{speed / alone:.2f}"] for rows, speed in found.batches.items()
    ]
    stages = [[stage, f"{found.start[stage]:.2f}"] for stage in (*start.STAGES, "first audio")]
    return "\n\n".join(
        [
            "How T3's weights are stored, in Turbo and in Nano. The kinds take turns; the bound of "
            "each is the time to read its own weights:",
            markdown(
                ["figure", "at least", "aim", "reached", ""],
                [row.cells() for row in found.rows(reference)],
            ),
            markdown(["stored as", *(head for head, _, _ in _COLUMNS)], rows),
            "Texts that T3 decodes together, 8 bits:",
            markdown(["texts", "tokens a second", "× one"], batches),
            "From the start of the command to the first audio, 8 bits, a saved voice, files and "
            "kernels in the caches (`python -m tests.measure.start`):",
            markdown(["stage", "seconds"], stages),
        ]
    )
