"""``make parity``: run the PyTorch reference and this package on the same weights, and compare.

Prints every figure beside its bound, writes them into docs/parity.md, and exits with 1 when one
misses. ``--goldens`` records the small tensors that ``make test`` checks without torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mlx_audio_turbo.config import ModelConfig
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

from .compare.context import Context
from .rows import Row
from .sizes import GOLDEN
from .table import BEGIN, END, SHORT_MARKS, markdown, render, short, write_docs

ROOT = Path(__file__).resolve().parents[3]
GOLDENS = ROOT / "tests" / "goldens"
CLIP = ROOT / "tests" / "data" / "1069-133699-0000.flac"
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
SEED = 20_26


def data_folder() -> Path | None:
    """Measured data beside the checkout: stand-in weights, more clips, the tiny trained model."""
    folder = Path(os.environ.get("MLX_AUDIO_TURBO_DATA", ROOT.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


def record(
    python: Path, checkpoint: Path, out: Path, clips: list[Path], parts: list[str], *, small: bool
) -> None:
    """Run the reference's side in its own environment."""
    command = [str(python), "-m", "tests.measure.parity.reference", "--checkpoint", str(checkpoint)]
    command += ["--out", str(out), "--parts", *parts, "--clips", *map(str, clips)]
    data = data_folder()
    if small:
        command.append("--small")
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="make parity", description=__doc__)
    parser.add_argument("--reference", type=Path, required=True, help="Python of the reference")
    parser.add_argument("--work", type=Path, default=ROOT / ".parity")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--checkpoint", type=Path, help="upstream layout; by default random, full")
    parser.add_argument("--keep", action="store_true", help="reuse what the reference recorded")
    parser.add_argument("--goldens", action="store_true", help="record tests/goldens instead")
    args = parser.parse_args()
    data = data_folder()

    if args.goldens:
        tiny = checkpoint(args.work / "golden" / "tiny", GOLDEN)
        record(args.reference, tiny, GOLDENS, [CLIP], args.parts, small=True)
        context = Context(tiny, [CLIP], None, GOLDENS, small=True)
        rows = list(compare(context, args.parts))
        print(render(rows))
        return 0 if all(row.passed for row in rows) else 1

    source = args.checkpoint or checkpoint(args.work / "turbo", TURBO)
    clips = sorted((data / "speech").glob("*.flac")) if data else [CLIP]
    out = args.work / "recorded" / source.name
    todo = [p for p in args.parts if not (args.keep and (out / f"{p}.npz").exists())]
    start = time.perf_counter()
    if todo:
        record(args.reference, source, out, clips, todo, small=False)
    context = Context(
        source,
        clips,
        data / "weights" if data else None,
        out,
        tokenizer=data / "tokenizer" if data else None,
    )
    rows = []
    for row in compare(context, args.parts):
        rows.append(row)
        print(render([row], header=len(rows) == 1), flush=True)
    missed = [row for row in rows if not row.passed]
    print(f"{len(rows)} figures, {len(missed)} missed, {time.perf_counter() - start:.0f} s")
    if set(args.parts) == set(PARTS) and args.checkpoint is None:
        write_docs(ROOT / "docs" / "parity.md", BEGIN, END, markdown(rows))
        write_docs(ROOT / "README.md", *SHORT_MARKS, short(rows))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
