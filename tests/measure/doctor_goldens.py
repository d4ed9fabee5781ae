"""Record the outputs that ``mlx_audio_turbo.doctor`` compares with: float32 on the CPU.

Run: ``python -m tests.measure.doctor_goldens``, after a change of the seeded weights or the stages.
A change of the networks must leave them as they are.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.doctor.goldens import PATH, Recorder
from mlx_audio_turbo.doctor.stages import STAGES
from mlx_audio_turbo.ops import blas


def main() -> None:
    """Write the file and print its size."""
    mx.set_default_device(mx.cpu)
    blas.load()
    arrays: dict[str, np.ndarray] = {}
    for stage, run in STAGES.items():
        record = Recorder()
        run(record, mx.float32)
        arrays |= {f"{stage}/{each.name}": each.sketch for each in record.outputs}
        arrays |= {f"{stage}/{name}": ids.astype(np.int16) for name, ids in record.exact.items()}
    np.savez_compressed(PATH, **arrays)  # pyright: ignore[reportArgumentType]
    print(f"{len(arrays)} arrays, {PATH.stat().st_size:,} bytes: {PATH}")


if __name__ == "__main__":
    main()
