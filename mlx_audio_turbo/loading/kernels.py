"""Kernels compiled ahead of the folder that needs them."""

from __future__ import annotations

from .. import ops
from ..config import ModelConfig, Quantization
from ..ops import lanes
from .networks import make_t3


def prepare(config: ModelConfig, *, quantization: Quantization | None, floats: str) -> None:
    """Compile in the background what a folder of this kind needs on this machine's CPU.

    For a process that makes the folder: the first one that speaks then finds the code in the cache.

    Args:
        floats: ``"float32"``, ``"float16"`` or ``"bfloat16"``, of what is not quantised.
    """
    if ops.on_gpu():
        return
    t3 = make_t3(config.t3)
    if t3.reads_stored():
        t3.start_compiling(quantization, floats, keep=True)
    lanes.compile_in_background(keep=True)
