"""The command ``mlx_audio_turbo.convert``: make model folders."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mlx_audio_turbo.config import NANO, TINY, TURBO
from mlx_audio_turbo.errors import TurboError

from . import folder, foreign, synthetic, upstream, voices

_SIZES = {"tiny": ("tiny", TINY), "nano": ("nano", NANO), "full": ("turbo", TURBO)}
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 2 where the user can mend what is wrong."""
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except TurboError as error:
        print(f"mlx_audio_turbo.convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlx_audio_turbo.convert", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    build = commands.add_parser("build", help="upstream checkpoint to model folder")
    build.add_argument(
        "--source",
        default="ResembleAI/chatterbox-turbo",
        metavar="DIR|REPO",
        help="folder with the upstream files, or one of "
        f"{', '.join(upstream.REPOSITORIES)} (default: %(default)s); "
        "or a folder of another MLX converter",
    )
    build.add_argument("--revision", metavar="SHA", help="commit of the repository")
    build.add_argument("--dtype", choices=folder.STORED, default="float16", help="%(default)s")
    build.add_argument(
        "--output", type=Path, metavar="DIR", help="default: Chatterbox-Turbo-TTS-fp16 and the like"
    )
    build.add_argument(
        "--include-voice",
        action="store_true",
        help="keep the built-in voice, which is somebody's and nobody says whose",
    )
    build.add_argument("--force", action="store_true", help="replace the folder at --output")
    build.set_defaults(run=_build)

    make = commands.add_parser(
        "synthetic", help="untrained checkpoint in the upstream layout; it speaks noise"
    )
    make.add_argument("--size", choices=_SIZES, required=True)
    make.add_argument("--output", type=Path, required=True, metavar="DIR")
    make.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    make.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="folder with the five tokenizer files to use (default: one token per byte)",
    )
    make.add_argument("--force", action="store_true", help="replace the folder at --output")
    make.set_defaults(run=_synthetic)
    return parser


def _build(args: argparse.Namespace) -> None:
    if args.include_voice:
        print(voices.WARNING, file=sys.stderr)
    if other := foreign.recognise(Path(args.source).expanduser()):
        _rebuild(args, other)
        return
    source = upstream.resolve(
        args.source,
        revision=args.revision,
        include_voice=args.include_voice,
        progress=_progress("check"),
    )
    output = args.output or Path(
        f"Chatterbox-{source.variant.capitalize()}-TTS-{_SHORT[args.dtype]}"
    )
    folder.convert(
        source,
        output,
        dtype=args.dtype,
        include_voice=args.include_voice,
        force=args.force,
        progress=_progress("convert"),
    )
    print(output)


def _rebuild(args: argparse.Namespace, source: foreign.Foreign) -> None:
    output = args.output or Path(f"Chatterbox-Turbo-TTS-{_SHORT[args.dtype]}")
    notes = foreign.convert(
        source,
        output,
        dtype=args.dtype,
        include_voice=args.include_voice,
        force=args.force,
    )
    for note in notes:
        print(note, file=sys.stderr)
    print(output)


def _synthetic(args: argparse.Namespace) -> None:
    name, config = _SIZES[args.size]
    synthetic.write_checkpoint(
        args.output,
        config=config,
        name=name,
        seed=args.seed,
        tokenizer=args.tokenizer,
        force=args.force,
        progress=_progress("write"),
    )
    print(args.output)


def _progress(what: str) -> Callable[[int, int], None] | None:
    """A counter on the terminal's last line; nothing where standard error is no terminal."""
    if not sys.stderr.isatty():
        return None
    shown = 0.0

    def show(done: int, total: int) -> None:
        nonlocal shown
        if done < total and time.monotonic() - shown < 0.1:
            return
        shown = time.monotonic()
        end = "\n" if done == total else ""
        print(f"\r{what} {done / 1e6:,.0f} of {total / 1e6:,.0f} MB", end=end, file=sys.stderr)

    return show


if __name__ == "__main__":
    sys.exit(main())
