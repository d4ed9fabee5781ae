"""Try all bad inputs and the long soak, and write the counts into docs/reliability.md.

Run: ``make reliability``, or ``python -m tests.measure.reliability``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlx_audio_turbo import ChatterboxTurbo
from mlx_audio_turbo_convert.synthetic.tiny import ensure

from .robustness.bench import Bench, Outcome, attempt, small_disk
from .robustness.inputs import INPUTS, full_disk, read_only_disk
from .robustness.soak import Soak, soak

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- counts: made by `make reliability` -->"
END = "<!-- end of counts -->"
MOST_GROWTH = 50_000_000


def main() -> int:
    """Write the page; gives 1 if any input failed or memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=500, help="of the soak (%(default)s)")
    parser.add_argument("--threads", type=int, default=4, help="of the soak (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        bench = _bench(Path(root))
        # First, while the process has no freed memory that growth could hide in.
        found = soak(bench.model, bench.voice, generations=args.generations, threads=args.threads)
        outcomes = list(_outcomes(bench))
        os.chdir(PAGE.parent)
    bad = [(group, name, outcome) for group, name, outcome in outcomes if outcome.problems]
    for group, name, outcome in bad:
        print(f"{group}, {name}: {'; '.join(outcome.problems)}", file=sys.stderr)
    text = PAGE.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{_table(outcomes, found)}{END}{after}", "utf-8")
    print(PAGE)
    return 1 if bad or found.growth > MOST_GROWTH else 0


def _bench(root: Path) -> Bench:
    folder, place = root / "inputs", root / "place"
    folder.mkdir()
    place.mkdir()
    os.chdir(place)
    os.environ["MLX_AUDIO_TURBO_CACHE"] = str(root / "cache")
    os.environ["MLX_AUDIO_TURBO_VOICES"] = str(folder / "voices")
    tiny = ensure(root / "cache")
    return Bench(folder, place, tiny, ChatterboxTurbo.from_pretrained(tiny))


def _outcomes(bench: Bench) -> Iterator[tuple[str, str, Outcome]]:
    for group, inputs in INPUTS.items():
        for name, make in inputs.items():
            yield group, name, attempt(bench, make(bench))
    for group, options, make_all in (
        ("full disk", "size=8k", full_disk),
        ("read-only disk", "ro,size=8k", read_only_disk),
    ):
        with small_disk(bench.folder / "disk", options=options) as disk:
            if disk is None:
                continue
            for name, trial in make_all(bench, disk).items():
                outcome = attempt(bench, trial)
                left = tuple(path.name for path in disk.rglob("*"))
                if left:
                    problems = (*outcome.problems, f"left behind: {', '.join(left)}")
                    outcome = Outcome(outcome.line, problems, outcome.seconds, partial=left)
                yield group, name, outcome


def _table(outcomes: list[tuple[str, str, Outcome]], found: Soak) -> str:
    lines = [
        "| group | inputs tried | clear errors | unusual, accepted | tracebacks | partial files |",
        "|---|---|---|---|---|---|",
    ]
    groups = list(dict.fromkeys(group for group, _, _ in outcomes))
    for group in (*groups, "all"):
        mine = [outcome for name, _, outcome in outcomes if group in (name, "all")]
        good = [outcome for outcome in mine if not outcome.problems]
        counts = (
            len(mine),
            sum(bool(outcome.line) for outcome in good),
            sum(not outcome.line for outcome in good),
            sum(outcome.traceback for outcome in mine),
            sum(len(outcome.partial) for outcome in mine),
        )
        name = f"**{group}**" if group == "all" else group
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    lines += [
        "",
        "| soak | |",
        "|---|---|",
        f"| generations | {found.generations} |",
        f"| threads | {found.threads} |",
        f"| voices | {found.voices} |",
        f"| memory growth after the tenth | {found.growth / 1e6:.1f} MB |",
        f"| the most in between | {found.highest / 1e6:.1f} MB |",
        "",
        f"Measured with mlx {importlib.metadata.version('mlx')} on {platform.system()} "
        f"{platform.machine()}, Python {platform.python_version()}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
