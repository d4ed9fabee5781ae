"""Random upstream tensors, and a network filled with them through the converter's own rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_audio_turbo_convert import rules as conversion
from mlx_audio_turbo_convert.safetensors_writer import Tensor


def draw(table: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, np.ndarray]:
    """Values for a table of ``convert.shapes``: no variance, gain or bias at its default."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, tensor in table.items():
        values = rng.standard_normal(tensor.shape)
        if name.endswith("running_var"):
            values = 0.2 + np.abs(values)
        elif len(tensor.shape) < 2:
            values = 0.3 * values + name.endswith("weight")
        else:
            values /= math.sqrt(math.prod(tensor.shape[1:]))
        tensors[name] = values.astype(np.int64 if tensor.dtype == "I64" else np.float32)
    return tensors


def fill(
    module: nn.Module,
    rules: Sequence[conversion.Rule | conversion.Drop],
    tensors: Mapping[str, np.ndarray],
    *,
    prefix: str,
) -> conversion.Plan:
    """Load ``tensors`` into ``module``, whose keys lose ``prefix``; gives the plan it took."""
    flat: Any = tree_flatten(module.parameters())
    shapes = {prefix + name: tuple(array.shape) for name, array in flat}
    plan = conversion.plan(rules, tensors)
    made = conversion.apply(plan, tensors.__getitem__, shapes)
    module.load_weights(
        [(name.removeprefix(prefix), mx.array(array)) for name, array in made], strict=True
    )
    return plan


def under(prefix: str, table: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a table whose names start with ``prefix``."""
    return {name: tensor for name, tensor in table.items() if name.startswith(prefix)}
