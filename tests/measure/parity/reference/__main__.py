"""Record the reference's tensors.

Run: ``python -m tests.measure.parity.reference --checkpoint D --out F``.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import numpy as np
import torch

from .context import Context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--clips", type=Path, nargs="+", required=True)
    parser.add_argument("--stand-ins", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="folder, where not the checkpoint")
    parser.add_argument("--parts", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder; one .npz per part")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--own", action="store_true")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    context = Context(
        args.checkpoint, args.clips, args.stand_ins, args.small, args.tokenizer, args.own
    )
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.parts:
        torch.manual_seed(0)
        record = importlib.import_module(f"{__package__}.{part}").record
        np.savez_compressed(args.out / f"{part}.npz", **record(context))


if __name__ == "__main__":
    main()
