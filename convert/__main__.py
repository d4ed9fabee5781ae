"""The command ``mlx_audio_turbo.convert``: make model folders."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import mlx_audio_turbo.presets as presets
from mlx_audio_turbo.cli.ending import run_here
from mlx_audio_turbo.cli.options import Parser, file_path
from mlx_audio_turbo.config import QUANTIZATION_BITS, QUANTIZATION_GROUPS, Quantization
from mlx_audio_turbo.config.quantization import T3_BLOCKS
from mlx_audio_turbo.errors import ModelFolderError, OptionError
from mlx_audio_turbo.files.paths import user_path
from mlx_audio_turbo.loading.kernels import prepare
from mlx_audio_turbo.voice import Voice

from . import builtin_voice, card, compare, folder, published, source, verify
from .precision import STORED
from .synthetic import checkpoint as synthetic
from .synthetic import tiny
from .third_party import build as third_party
from .third_party.recognise import ThirdPartyFolder, recognise

_PROG = "mlx_audio_turbo.convert"
_SIZES = {
    **tiny.SIZES,
    "nano": (presets.TURBO_TYPE, presets.NANO),
    "full": (presets.TURBO_TYPE, presets.TURBO),
    "original": (presets.ORIGINAL_TYPE, presets.ORIGINAL),
    "multilingual": (presets.MULTILINGUAL_TYPE, presets.MULTILINGUAL),
}
_SHORT = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


_FAULTS_SHOWN = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the code is 1 where ``verify`` finds a fault, 2 for a user's error."""
    args = parser().parse_args(arguments)
    return run_here(_PROG, lambda: args.run(args))


def parser() -> argparse.ArgumentParser:
    """Options of ``mlx_audio_turbo.convert``."""
    out = Parser(
        prog=_PROG,
        description="Make model folders of published checkpoints, check and publish them.",
    )
    commands = out.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, help: str) -> argparse.ArgumentParser:
        description = f"{help[0].upper()}{help[1:]}."
        return commands.add_parser(name, help=help, description=description)

    build = command("build", "make a model folder of a published checkpoint")
    build.add_argument(
        "--model",
        metavar="MODEL",
        choices=published.MODELS,
        help=f"one of {', '.join(published.MODELS)} (default: turbo)",
    )
    build.add_argument(
        "--source",
        metavar="DIR|REPO",
        help="folder with the upstream files, or of another MLX converter, or one of "
        f"{', '.join(dict.fromkeys(presets.PUBLISHED.values()))} (default: that of --model)",
    )
    build.add_argument("--revision", metavar="SHA", help="commit of the repository")
    build.add_argument(
        "--dtype",
        choices=STORED,
        default="float16",
        help="of matrices and tables, with --quantize of all others (default: %(default)s)",
    )
    build.add_argument(
        "--quantize", action="store_true", help="T3's blocks in fewer bits; nothing else"
    )
    build.add_argument(
        "--bits", type=int, choices=QUANTIZATION_BITS, help="with --quantize (default: 4)"
    )
    build.add_argument(
        "--group-size",
        type=int,
        choices=QUANTIZATION_GROUPS,
        help="weights that share a scale, with --quantize (default: 64)",
    )
    build.add_argument(
        "--output",
        type=file_path,
        metavar="DIR",
        help="default: Chatterbox-Turbo-TTS-fp16, Chatterbox-Nano-TTS-4bit and the like",
    )
    build.add_argument(
        "--no-s3tokenizer",
        action="store_true",
        help="leave out the S3 tokenizer (248 MB); such a folder speaks with saved voices only",
    )
    build.add_argument(
        "--include-voice",
        action="store_true",
        help="keep the built-in voice, a person's whom the publisher does not name",
    )
    build.add_argument("--force", action="store_true", help="replace the folder at --output")
    build.set_defaults(run=_build)

    check = command("verify", "compare a model folder with its checkpoint")
    check.add_argument("folder", type=file_path, metavar="FOLDER", help="as build wrote it")
    check.add_argument(
        "--source",
        metavar="DIR|REPO",
        help="the checkpoint (default: the repository that FOLDER names)",
    )
    check.set_defaults(run=_verify)

    versus = command(
        "compare", "print what fewer bits change: sizes, agreement and divergence, as a table"
    )
    versus.add_argument(
        "folders", type=file_path, nargs="+", metavar="FOLDER", help="the first is the measure"
    )
    versus.add_argument(
        "--voice", type=file_path, metavar="FILE", help="a saved voice (default: random numbers)"
    )
    versus.add_argument(
        "--tokens", type=int, default=compare.TOKENS, help="for each text (default: %(default)s)"
    )
    versus.add_argument("--cards", action="store_true", help="put the table on the cards as well")
    versus.set_defaults(run=_compare)

    share = command("publish", "upload a model folder to the Hub; asks first")
    share.add_argument("folder", type=file_path, metavar="FOLDER", help="as build wrote it")
    share.add_argument("--repo", required=True, metavar="OWNER/NAME", help="where on the Hub")
    share.add_argument("--private", action="store_true", help="for you alone")
    share.add_argument("--yes", action="store_true", help="do not ask")
    share.set_defaults(run=_publish)

    make = command(
        "synthetic", "make an untrained checkpoint in the upstream layout, which speaks noise"
    )
    make.add_argument(
        "--size",
        metavar="SIZE",
        choices=_SIZES,
        required=True,
        help=f"which model, in which size: {', '.join(_SIZES)}",
    )
    make.add_argument(
        "--output", type=file_path, required=True, metavar="DIR", help="the new folder"
    )
    make.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    make.add_argument(
        "--tokenizer",
        type=file_path,
        metavar="DIR",
        help="folder with the tokenizer files to use (default: one token per byte or character)",
    )
    make.add_argument("--force", action="store_true", help="replace the folder at --output")
    make.set_defaults(run=_synthetic)
    return out


def _build(args: argparse.Namespace) -> None:
    if not args.quantize and (args.bits or args.group_size):
        raise OptionError("--bits and --group-size change nothing without --quantize; add it")
    if args.include_voice:
        print(builtin_voice.WARNING, file=sys.stderr)
    place = args.source or args.model or "turbo"
    if other := recognise(user_path(place)):
        if args.quantize or args.no_s3tokenizer:
            raise OptionError(
                f"{place} is another converter's folder; --quantize and --no-s3tokenizer need the "
                "original checkpoint"
            )
        _rebuild(args, other)
        return
    found = source.resolve(
        place,
        model=args.model,
        revision=args.revision,
        include_voice=args.include_voice,
        progress=_progress("check"),
    )
    if args.model and args.model != found.variant:
        raise OptionError(f"{place} holds {found.variant}, not {args.model}; leave out one of two")
    quantization = None
    if args.quantize:
        blocks = (T3_BLOCKS[found.config.t3.kind],)
        quantization = Quantization(args.bits or 4, args.group_size or 64, blocks)
    output = args.output or Path(_name(found.variant, args.dtype, quantization))
    _check_apart(output, found.folder)
    if found.variant in published.MODELS:
        prepare(found.config, quantization=quantization, floats=args.dtype)
    folder.convert(
        found,
        output,
        dtype=args.dtype,
        quantization=quantization,
        s3_tokenizer=not args.no_s3tokenizer,
        include_voice=args.include_voice,
        force=args.force,
        progress=_progress("convert"),
    )
    print(output)


def _check_apart(output: Path, source: Path) -> None:
    """Refuse to replace the folder that is read, or one that holds it.

    Raises:
        OptionError: with both paths.
    """
    read, written = Path(os.path.realpath(source)), Path(os.path.realpath(output))
    if written in (read, *read.parents):
        raise OptionError(f"{output} holds {source}, which is read; give another --output")


def _name(variant: str, dtype: str, quantization: Quantization | None) -> str:
    kind = f"{quantization.bits}bit" if quantization else _SHORT[dtype]
    name = "-".join(part.capitalize() for part in variant.split("-"))
    return f"Chatterbox-{name}-TTS-{kind}"


def _rebuild(args: argparse.Namespace, other: ThirdPartyFolder) -> None:
    output = args.output or Path(f"Chatterbox-Turbo-TTS-{_SHORT[args.dtype]}")
    _check_apart(output, other.folder)
    notes = third_party.convert(
        other,
        output,
        dtype=args.dtype,
        fallback=third_party.find_s3_tokenizer(other),
        include_voice=args.include_voice,
        force=args.force,
    )
    for note in notes:
        print(note, file=sys.stderr)
    print(output)


def _verify(args: argparse.Namespace) -> int:
    if not args.folder.is_dir():
        raise ModelFolderError(f"no folder at {args.folder}; give a model folder")
    place, revision, model = verify.origin(args.folder, args.source)
    found = source.resolve(place, model=model, revision=revision, progress=_progress("check"))
    failed = 0
    for check in verify.verify(args.folder, found):
        print(f"{'FAIL' if check.faults else 'ok':4}  {check.name:12}  {check.detail}".rstrip())
        for fault in check.faults[:_FAULTS_SHOWN]:
            print(f"      {fault}")
        if len(check.faults) > _FAULTS_SHOWN:
            print(f"      and {len(check.faults) - _FAULTS_SHOWN} more")
        failed += len(check.faults)
    print(f"{args.folder}: {'NOT what' if failed else 'what'} {found.folder} makes")
    return 1 if failed else 0


def _compare(args: argparse.Namespace) -> None:
    if args.tokens < 1:
        raise OptionError(f"--tokens is {args.tokens}; give a number from 1 up")
    voice = Voice.load(args.voice) if args.voice else None
    rows = list(compare.compare(args.folders, voice=voice, tokens=args.tokens))
    text = compare.table(rows)
    print(text)
    trained = all(row.trained for row in rows)
    if not trained:
        print(f"\n{card.ARITHMETIC}")
    for place in args.folders if args.cards else ():
        card.set_accuracy(place, text, trained=trained)


def _publish(args: argparse.Namespace) -> int:
    from . import publish

    def confirm(summary: str) -> bool:
        print(summary)
        if args.yes:
            return True
        if not sys.stdin.isatty():
            raise OptionError("there is no terminal to confirm on; add --yes")
        return input("Upload? [y/N] ").strip().lower() in ("y", "yes")

    address = publish.publish(args.folder, args.repo, private=args.private, confirm=confirm)
    print(address or "Nothing was uploaded.")
    return 0 if address else 1


def _synthetic(args: argparse.Namespace) -> None:
    model_type, config = _SIZES[args.size]
    if args.tokenizer is not None:
        _check_apart(args.output, args.tokenizer)
    synthetic.write_checkpoint(
        args.output,
        config=config,
        name="turbo" if args.size == "full" else args.size,
        model_type=model_type,
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
