"""The command ``mlx_audio_turbo.tts``: a text and a voice in, a file or sound out."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from ..presets import TAGS
from .completion import complete
from .options import tts_parser, underscored
from .process import run
from .terminal import Terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives the exit code."""
    parser = tts_parser()
    complete(parser)
    args = parser.parse_args(underscored(sys.argv[1:] if argv is None else argv))
    terminal = Terminal("mlx_audio_turbo.tts", quiet=args.quiet, verbose=args.verbose)
    if not terminal.bars:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if args.list_tags:
        return run(terminal, lambda: print("\n".join(TAGS)), kept=str)
    if args.detect is not None:
        return run(terminal, lambda: _detect(args), kept=str)
    # Imported here, so that --help need not wait for the model's code.
    from .speaking import Run

    speaking = Run(args, terminal)
    try:
        return run(terminal, speaking.run, kept=speaking.kept)
    finally:
        speaking.close()


def _detect(args: argparse.Namespace) -> None:
    from ..audio import watermark

    sure = watermark.detect(args.detect)
    if args.json:
        print(json.dumps({"path": args.detect, "watermark": round(sure, 4)}))
    else:
        found = "has Perth's watermark" if sure >= 0.5 else "has no watermark of Perth's"
        print(f"{args.detect} {found} ({sure:.0%} sure it has)")
