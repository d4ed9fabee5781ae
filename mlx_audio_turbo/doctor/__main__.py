"""The command ``mlx_audio_turbo.doctor``: whether the numbers are right on this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..cli.ending import run_here
from ..cli.options import Parser
from ..errors import ModelFolderError, OptionError

PROG = "mlx_audio_turbo.doctor"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    out = Parser(
        prog=PROG,
        description="Check every stage of the model on this machine, in at most two minutes and\n"
        "without network. The exit code is 1 if something is off.",
    )
    out.add_argument("--model", metavar="FOLDER", help="check this model folder too (or 'tiny')")
    out.add_argument("--json", action="store_true", help="print the whole report as JSON")
    out.add_argument("--only", metavar="CHECK", nargs="+", help="only these checks, by name")
    out.add_argument("--quiet", action="store_true", help="no progress on standard error")
    out.add_argument("--cpu", action="store_true", help="check the CPU, also where a GPU is")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    args = parser().parse_args(argv)
    # Read by MLX when it starts: float32 products in full precision, as the goldens are.
    os.environ.setdefault("MLX_ENABLE_TF32", "0")
    return run_here(PROG, lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    import mlx.core as mx

    from ..loading import catalog
    from . import checkup, report

    if args.cpu:
        mx.set_default_device(mx.cpu)
    model = None
    if args.model:
        model = catalog.resolve("tiny") if args.model == "tiny" else Path(args.model).expanduser()
        if not model.is_dir():
            raise ModelFolderError(f"no model folder at {model}; give a folder that is on the disk")
    if unknown := sorted(set(args.only or ()) - set(checkup.CHECKS)):
        known = ", ".join(checkup.CHECKS)
        raise OptionError(f"no check is named {unknown[0]!r}; choose from {known}")
    told = args.quiet or args.json or not sys.stderr.isatty()

    def progress(stage: str) -> None:
        if not told:
            print(f"{stage} ...", file=sys.stderr)

    found = checkup.examine(model=model, only=args.only, progress=progress)
    print(json.dumps(found.as_dict(), indent=2) if args.json else report.text(found))
    return 1 if found.failed else 0


if __name__ == "__main__":
    sys.exit(main())
