"""The command ``mlx_audio_turbo.benchmark``: how fast the model is on this machine."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..cli.ending import run_here
from ..cli.options import Parser, file_path
from ..errors import OptionError
from ..loading.catalog import DEFAULT_MODEL
from ..plotting import check_image

PROG = "mlx_audio_turbo.benchmark"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    out = Parser(
        prog=PROG,
        description="Time the model stage by stage, on random tokens of a fixed length.",
    )
    out.add_argument(
        "--model", default=DEFAULT_MODEL, help="folder, Hub id, or 'tiny' (default: %(default)s)"
    )
    out.add_argument("--seconds", metavar="S", type=float, default=10.0, help="of audio (10)")
    out.add_argument("--repeats", metavar="N", type=int, default=5, help="medians of N (5)")
    out.add_argument("--json", action="store_true", help="print all figures as JSON")
    out.add_argument(
        "--brief", action="store_true", help="one pass of the utterance, with its memory"
    )
    out.add_argument(
        "--lengths", type=float, nargs="+", metavar="S", help="time and memory by length too"
    )
    out.add_argument(
        "--plot", type=file_path, metavar="PNG", help="plot --lengths (needs matplotlib)"
    )
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    args = parser().parse_args(argv)
    with _without_log():
        return run_here(PROG, lambda: _run(args))


@contextmanager
def _without_log() -> Iterator[None]:
    """Without the notes that an utterance of a fixed length ended at its limit."""
    logger = logging.getLogger("mlx_audio_turbo")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _run(args: argparse.Namespace) -> None:
    if args.repeats < 1 or not 1 <= args.seconds <= 40:
        raise OptionError("give --repeats of 1 or more and --seconds from 1 to 40")
    if args.plot and not args.lengths:
        raise OptionError("--plot shows --lengths; give some, such as 5 10 20 40")
    if args.plot:
        check_image(args.plot)
    from . import report, runs
    from .lengths import by_length, lines
    from .plot import save_plot

    if args.brief:
        figures = runs.brief(args.model, args.seconds)
    else:
        figures = runs.own(args.model, args.seconds, args.repeats)
    if args.lengths:
        figures["lengths"] = by_length(args.model, args.lengths)
    if args.plot:
        save_plot(figures["lengths"], args.plot)
    if args.json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    print(report.own(figures))
    if args.lengths:
        print("\n" + lines(figures["lengths"]))


if __name__ == "__main__":
    sys.exit(main())
