"""Write safetensors files one tensor at a time; reading them is the library's own.

The format (github.com/huggingface/safetensors): eight bytes of header length, little endian; a JSON
object that gives each tensor's dtype, shape and byte range; the data, without gap or overlap.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.files.atomic import replacing
from mlx_audio_turbo.files.safetensors_reader import (
    DTYPES,
    MAX_HEADER,
    Reader,
    Tensor,
    from_bfloat16,
)

__all__ = [
    "DTYPES",
    "MAX_HEADER",
    "Reader",
    "Tensor",
    "from_bfloat16",
    "size",
    "to_bfloat16",
    "write",
]

_ORDER = {name: i for i, name in enumerate(DTYPES)}


def write(
    path: Path,
    tensors: Mapping[str, Tensor],
    arrays: Iterable[tuple[str, np.ndarray]],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write ``path``: the header from ``tensors``, then each of ``arrays`` at its place.

    The file appears under its name only when it is whole and on the disk. The layout is that of the
    format's own writer: types from wide to narrow, then names.

    Args:
        tensors: every tensor of the file.
        arrays: the same tensors' values, in any order; bfloat16 as uint16.

    Raises:
        ValueError: an array that ``tensors`` does not describe, or that is missing.
    """
    header, starts = _layout(tensors, metadata)
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write(header)
        left = set(starts)
        for name, array in arrays:
            tensor = tensors.get(name)
            if tensor is None or name not in left:
                raise ValueError(f"{name!r} is not expected in {path.name}")
            if array.shape != tensor.shape or array.dtype != DTYPES[tensor.dtype]:
                raise ValueError(f"{name!r} is {array.dtype} {array.shape}, not {tensor}")
            left.remove(name)
            file.seek(starts[name])
            # a view as bytes: buffers of numpy's half floats are refused by some writers
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        if left:
            raise ValueError(f"{min(left)!r} is missing from {path.name}")
        file.flush()
        os.fsync(file.fileno())


def size(tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> int:
    """The bytes of the file that :func:`write` makes of ``tensors``."""
    header, _ = _layout(tensors, metadata)
    return len(header) + sum(tensor.bytes for tensor in tensors.values())


def _layout(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None
) -> tuple[bytes, dict[str, int]]:
    """All that comes before the data, and where in the file each tensor starts."""
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    starts: dict[str, int] = {}
    end = 0
    for name in sorted(tensors, key=lambda name: (_ORDER[tensors[name].dtype], name)):
        tensor = tensors[name]
        starts[name], end = end, end + tensor.bytes
        fields[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [starts[name], end],
        }
    header = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    header = len(header).to_bytes(8, "little") + header
    return header, {name: len(header) + start for name, start in starts.items()}


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Finite float32 to bfloat16's bits as uint16, rounded half to even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
