"""Which type each tensor of a folder has: half precision only where a rounding does little."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.loading.weights import IN_BFLOAT16, is_vector

from .safetensors_writer import DTYPES, to_bfloat16
from .source_tensors import is_finite

STORED: dict[str, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The dtypes of ``config.json`` and their names in the file."""
_LARGEST = {"F32": np.inf, "F16": 65_504.0, "BF16": 3.389e38}


def stored_as(name: str, shape: Sequence[int], stored: str) -> str:
    """The type of a tensor of floats in a folder of the type ``stored``."""
    if is_vector(name, shape):
        return "F32"
    return "F16" if stored == "BF16" and not name.startswith(IN_BFLOAT16) else stored


def cast(array: np.ndarray, stored: str, *, name: str) -> np.ndarray:
    """``array`` in the type ``stored``; bfloat16 as its bits.

    Raises:
        ModelFolderError: a value is not finite, or too large.
    """
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not is_finite(array):
        raise ModelFolderError(f"{name} has weights that are not finite; download it again")
    if max(-low, high) > _LARGEST[stored]:
        raise ModelFolderError(
            f"{name} has the weight {high if high > -low else low:g}, too large for {stored}; "
            "choose float32"
        )
    if stored == "BF16":
        return to_bfloat16(array)
    return array.astype(DTYPES[stored], copy=False)
