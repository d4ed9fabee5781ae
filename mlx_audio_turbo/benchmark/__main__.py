"""The command ``mlx_audio_turbo.benchmark``: how fast the model is here, and beside others."""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import OptionError, TurboError
from ..loading.catalog import DEFAULT_MODEL

PEERS = ("reference", "mlx-audio", "mlx-audio-as-installed")
SEED = 20_26
"""Of the drawn checkpoint; the same as in ``make parity``."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    out = argparse.ArgumentParser(
        prog="mlx_audio_turbo.benchmark",
        description="Time the model stage by stage, on drawn tokens of a fixed length.",
    )
    out.add_argument(
        "--model", default=DEFAULT_MODEL, help="folder, Hub id, or 'tiny' (default: %(default)s)"
    )
    out.add_argument("--seconds", metavar="S", type=float, default=10.0, help="of audio (10)")
    out.add_argument("--repeats", metavar="N", type=int, default=5, help="medians of N (5)")
    out.add_argument("--json", action="store_true", help="print all figures as JSON")
    out.add_argument(
        "--brief", action="store_true", help="the utterance and memory alone, a single pass"
    )
    out.add_argument(
        "--against",
        metavar="PEER",
        choices=PEERS,
        action="append",
        default=[],
        help=f"run {', '.join(PEERS[:-1])} or {PEERS[-1]} in turn with ours, in an environment of "
        "its own (`make benchmark-peers` sets them up); may be given more than once",
    )
    out.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="with --against: the weights in the upstream layout, for both sides; by default "
        "drawn at the published sizes into .parity/turbo",
    )
    out.add_argument(
        "--lengths", type=float, nargs="+", metavar="S", help="also: time and memory by length"
    )
    out.add_argument("--plot", type=Path, metavar="PNG", help="draw --lengths (wants matplotlib)")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    args = parser().parse_args(argv)
    try:
        with _without_news():
            _run(args)
    except TurboError as error:
        print(f"mlx_audio_turbo.benchmark: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


@contextmanager
def _without_news() -> Iterator[None]:
    """Utterances of a fixed length end at it, which nobody wants to be told here."""
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
        raise OptionError("--plot draws --lengths; give some, such as 5 10 20 40")
    from . import report, runs
    from .lengths import by_length, lines
    from .plot import draw

    if args.against:
        checkpoint = _checkpoint(args.checkpoint)
        model = args.model if args.model != DEFAULT_MODEL else checkpoint
        figures = runs.against(args.against, model, checkpoint, args.seconds, args.repeats)
    elif args.brief:
        figures = runs.brief(args.model, args.seconds)
    else:
        figures = runs.own(args.model, args.seconds, args.repeats)
    if args.lengths:
        figures["lengths"] = by_length(args.model, args.lengths)
    if args.plot:
        draw(figures["lengths"], args.plot)
    if args.json:
        print(json.dumps(figures, indent=2, ensure_ascii=False))
        return
    if args.against:
        print(report.against(figures["ours"], figures["peers"], figures["notes"]))
    else:
        print(report.own(figures))
    if args.lengths:
        print("\n" + lines(figures["lengths"]))


def _checkpoint(folder: Path | None) -> Path:
    """The one that was given, or the one that ``make parity`` and this command share."""
    from ..presets import TURBO
    from .peers import ROOT

    folder = folder or ROOT / ".parity" / "turbo"
    if not (folder / "config.json").exists():
        synthetic = importlib.import_module("mlx_audio_turbo_convert.synthetic.checkpoint")
        synthetic.write_checkpoint(folder, config=TURBO, name=folder.name, seed=SEED)
    return folder


if __name__ == "__main__":
    sys.exit(main())
