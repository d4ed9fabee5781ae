"""``make parity``: run the PyTorch reference and this package on the same weights, and compare.

Prints every figure beside its bound, writes them into docs/parity.md, and exits with 1 when one
misses. ``--goldens`` records the small tensors that ``make test`` checks without torch.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mlx_audio_turbo.config import ModelConfig
from mlx_audio_turbo.ops import blas
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

from ..data import CLIP, ROOT, clips, data_folder, trained_checkpoint
from .compare.context import Context
from .rows import Row
from .sizes import GOLDEN
from .table import BEGIN, DEMO_MARKS, END, SHORT_MARKS, markdown, render, short, write_docs

PAGE = ROOT / "docs" / "parity.md"
GOLDENS = ROOT / "tests" / "goldens"
PARTS = (
    "frontends",
    "text",
    "encoders",
    "t3",
    "s3gen",
    "hift",
    "whole",
    "t3_original",
    "s3gen_original",
)
DEMO = "demo"
"""The small trained checkpoint, in a part of its own."""
DEMO_PARTS = ("encoders", "t3", "s3gen", "hift", "whole")
SEED = 20_26


def record(
    python: Path,
    checkpoint: Path,
    out: Path,
    clips: list[Path],
    parts: list[str],
    *,
    small: bool = False,
    own: bool = False,
) -> None:
    """Run the reference's side in its own environment."""
    command = [str(python), "-m", "tests.measure.parity.reference", "--checkpoint", str(checkpoint)]
    command += ["--out", str(out), "--parts", *parts, "--clips", *map(str, clips)]
    data = data_folder()
    if small:
        command.append("--small")
    elif own:
        command.append("--own")
    elif data:
        command += ["--stand-ins", str(data / "weights"), "--tokenizer", str(data / "tokenizer")]
    subprocess.run(command, cwd=ROOT, check=True)


def compare(context: Context, parts: list[str]) -> Iterator[Row]:
    """Every row of every part."""
    for part in parts:
        yield from importlib.import_module(f"tests.measure.parity.compare.{part}").rows(context)


def checkpoint(folder: Path, config: ModelConfig) -> Path:
    """The seeded random checkpoint of these sizes, made where it is not there yet."""
    if not (folder / "config.json").exists():
        write_checkpoint(folder, config=config, name=folder.name, seed=SEED)
    return folder


def full(args: argparse.Namespace, parts: list[str]) -> Iterator[Row]:
    """The rows of the random checkpoint of the published sizes, or of the one that was given."""
    data = data_folder()
    source = args.checkpoint or checkpoint(args.work / "turbo", TURBO)
    out = args.work / "recorded" / source.name
    todo = [p for p in parts if not (args.keep and (out / f"{p}.npz").exists())]
    if todo:
        record(args.reference, source, out, clips(), todo)
    context = Context(
        source,
        clips(),
        data / "weights" if data else None,
        out,
        tokenizer=data / "tokenizer" if data else None,
    )
    yield from compare(context, parts)


def demo(args: argparse.Namespace) -> Iterator[Row]:
    """The rows of the checkpoint of ``demo``, which is small: its tensors are always new."""
    out, converted = args.work / "recorded" / DEMO, args.work / f"{DEMO}-float32"
    shutil.rmtree(converted, ignore_errors=True)
    record(args.reference, args.trained, out, clips(), list(DEMO_PARTS), own=True)
    context = Context(args.trained, clips(), None, out, own=True, converted=converted)
    for row in compare(context, list(DEMO_PARTS)):
        yield replace(row, stage=f"{DEMO}, {row.stage}")


def show(rows: Iterator[Row]) -> list[Row]:
    """The rows, each printed when it is there."""
    shown = []
    for row in rows:
        shown.append(row)
        print(render([row], header=len(shown) == 1), flush=True)
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="make parity", description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="Python of the reference")
    parser.add_argument("--work", type=Path, default=ROOT / ".parity")
    parser.add_argument("--parts", nargs="+", default=[*PARTS, DEMO], choices=[*PARTS, DEMO])
    parser.add_argument("--checkpoint", type=Path, help="upstream layout; by default random, full")
    parser.add_argument(
        "--trained",
        type=Path,
        default=trained_checkpoint(),
        help="upstream layout, of the part demo, which is left out without it",
    )
    parser.add_argument("--keep", action="store_true", help="reuse what the reference recorded")
    parser.add_argument("--goldens", action="store_true", help="record tests/goldens instead")
    args = parser.parse_args()
    parts = [part for part in args.parts if part != DEMO]
    blas.load()

    if args.goldens:
        tiny = checkpoint(args.work / "golden" / "tiny", GOLDEN)
        record(args.reference, tiny, GOLDENS, [CLIP], parts, small=True)
        context = Context(tiny, [CLIP], None, GOLDENS, small=True)
        rows = list(compare(context, parts))
        print(render(rows))
        return 0 if all(row.passed for row in rows) else 1

    start = time.perf_counter()
    rows = show(full(args, parts)) if parts else []
    trained = []
    if DEMO in args.parts and args.trained:
        trained = show(demo(args))
        write_docs(PAGE, *DEMO_MARKS, markdown(trained))
    elif DEMO in args.parts:
        print("the trained checkpoint is not at hand: the part demo is left out")
    both = rows + trained
    missed = [row for row in both if not row.passed]
    print(f"{len(both)} figures, {len(missed)} missed, {time.perf_counter() - start:.0f} s")
    if set(parts) == set(PARTS) and args.checkpoint is None:
        write_docs(PAGE, BEGIN, END, markdown(rows))
        write_docs(ROOT / "README.md", *SHORT_MARKS, short(both))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
