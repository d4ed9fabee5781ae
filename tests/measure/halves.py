"""What half precision changes on a GPU's code path, and which weights' rounding does it.

Run: ``python -m tests.measure.halves``, on any device, a minute. Each figure is
|changed - exact| / |exact| in the mean over networks of ``tests/half_works.py``: small ones with
random weights of a trained model's magnitudes.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import mlx.core as mx
import numpy as np

os.environ.setdefault("MLX_AUDIO_TURBO_FORCE_GPU_PATH", "metal")

from mlx_audio_turbo.loading.weights import is_vector

from ..half_works import WORKS, Half

Kept = Callable[[str, mx.array], bool]
LAST = ("speech_head", "final_proj")
COLUMNS: dict[str, Kept] = {
    "weights": lambda name, array: False,
    "matrices": lambda name, array: is_vector(name, array.shape),
    "vectors": lambda name, array: not is_vector(name, array.shape),
    "last projection": lambda name, array: not any(last in name for last in LAST),
}
"""What is rounded, as what stays exact."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    print(f"| stage | model in | all in half | {' | '.join(COLUMNS)} |")
    print(f"|---|---|{'---|' * (len(COLUMNS) + 1)}")
    for name, work in WORKS.items():
        for dtype in (mx.float16, mx.bfloat16):
            rows = []
            for seed in range(args.seeds):
                half = Half(work(seed), dtype)
                rows.append([half.whole(), *map(half.of_weights, COLUMNS.values())])
            cells = " | ".join(f"{value:.1e}" for value in np.mean(rows, axis=0))
            print(f"| {name} | {str(dtype).rpartition('.')[2]} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
