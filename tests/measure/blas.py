"""Whether the chosen BLAS is used: matrix products against those of MLX's wheel, on Linux.

Run: ``python -m tests.measure.blas``. Exits with 1 below four times the speed.
"""

from __future__ import annotations

import os
import subprocess
import sys

FACTOR = 4.0
CODE = """
import time
import mlx.core as mx
{load}
mx.set_default_device(mx.cpu)
a = mx.random.normal((384, 384), key=mx.random.key(1))
best = float("inf")
for _ in range(8):
    started = time.process_time()
    mx.eval(a @ a)
    best = min(best, time.process_time() - started)
print(2 * 384**3 / best / 1e9)
"""
LOAD = "from mlx_audio_turbo.ops import blas; blas.load()"


def gflops(load: str) -> float:
    """GFLOP per second of processor time of one thread, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(load=load)],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> int:
    """Print both speeds."""
    bundled, ours = gflops(""), gflops(LOAD)
    print(f"MLX's wheel {bundled:.1f} GFLOP/s, ours {ours:.1f} GFLOP/s: {ours / bundled:.1f} times")
    return 0 if ours >= FACTOR * bundled else 1


if __name__ == "__main__":
    sys.exit(main())
