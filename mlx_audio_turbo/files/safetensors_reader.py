"""Read safetensors files one tensor at a time, trusting nothing in the header.

The format (github.com/huggingface/safetensors): eight bytes of header length, little endian; a JSON
object that gives each tensor's dtype, shape and byte range; the data, without gap or overlap.
"""

from __future__ import annotations

import errno
import json
import math
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ModelFolderError

MAX_HEADER = 10_000_000
"""Bytes. The format allows ten times as much, which costs gigabytes to parse; ours need 0.3 MB."""
MAX_DIMENSIONS = 32

# In the order in which the format's own writer sorts a file's tensors.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "BF16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
"""Stored types; numpy has no bfloat16, so its bits travel as uint16."""


@dataclass(frozen=True)
class Tensor:
    """A tensor's type (a key of ``DTYPES``) and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return DTYPES[self.dtype].itemsize * math.prod(self.shape)


def stand_in(path: Path) -> str | None:
    """What lies at ``path`` in place of the file that its name promises; None where nothing does.

    git leaves a pointer of three lines where git-lfs is not installed; a portal or a mirror sends
    a web page.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError:
        return None
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file itself"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not the file itself"
    return None


class Reader:
    """The tensors of one file, mapped and not loaded.

    Raises:
        ModelFolderError: the file cannot be read or its header does not hold together; the message
            ends in ``remedy``.
    """

    def __init__(self, path: Path, *, remedy: str = "download it again"):
        self.path = path
        if what := stand_in(path):
            raise ModelFolderError(f"{path} is {what}; {remedy}")
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                self.tensors, self._starts, self.metadata = _header(file, size)
            self._map = _mapped(path)
        except _BadHeader as error:
            raise ModelFolderError(f"{path} is damaged: {error}; {remedy}") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise ModelFolderError(f"{path} cannot be read: {reason}; {remedy}") from None

    def read(self, name: str) -> np.ndarray:
        """The tensor ``name``, mapped from the file; bfloat16 comes as float32."""
        tensor, start = self.tensors[name], self._starts[name]
        flat = np.frombuffer(self._map, np.uint8, tensor.bytes, start)
        array = flat.view(DTYPES[tensor.dtype]).reshape(tensor.shape)
        array = np.require(array, requirements="A")
        return from_bfloat16(array) if tensor.dtype == "BF16" else array

    @property
    def mapped(self) -> bool:
        """Whether the file takes no memory but for what has been read of it."""
        return not isinstance(self._map, bytes)

    def drop(self, name: str) -> None:
        """Give the memory back that reading ``name`` took; it may be read again."""
        if not isinstance(self._map, bytes) and hasattr(mmap, "MADV_DONTNEED"):
            start, page = self._starts[name], mmap.PAGESIZE
            first, end = start // page * page, start + self.tensors[name].bytes
            if end > first:
                self._map.madvise(mmap.MADV_DONTNEED, first, end - first)


def _mapped(path: Path) -> mmap.mmap | bytes:
    """The bytes of a file, read as they are used; at once where files cannot be mapped."""
    try:
        with open(path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        # Some network and user-space file systems.
        if error.errno not in (errno.ENODEV, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        return path.read_bytes()


class _BadHeader(Exception):
    """What is wrong, in words."""


def _header(file: BinaryIO, size: int) -> tuple[dict[str, Tensor], dict[str, int], dict[str, str]]:
    if size < 8:
        raise _BadHeader(f"{size} bytes are no safetensors file")
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        raise _BadHeader(f"its header claims {length} bytes, over the limit of {MAX_HEADER}")
    if length > size - 8:
        raise _BadHeader(f"its header claims {length} bytes where {size - 8} follow")
    try:
        fields = json.loads(file.read(length), object_pairs_hook=_no_duplicates, parse_int=_integer)
    except (ValueError, RecursionError):
        raise _BadHeader("its header is not JSON") from None
    if not isinstance(fields, dict):
        raise _BadHeader("its header is not a JSON object")
    metadata = fields.pop("__metadata__", None)
    if metadata is None:  # MLX writes null where it has nothing to say
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _BadHeader("its metadata is not an object of strings")

    tensors: dict[str, Tensor] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, field in fields.items():
        tensors[name], start, end = _field(name, field)
        ranges.append((start, end, name))
    end = 0
    for start, stop, name in sorted(ranges):
        if start != end:
            what = "overlaps the tensor before it" if start < end else "leaves a gap before it"
            raise _BadHeader(f"the tensor {_short(name)} {what}")
        end = stop
    data = size - 8 - length
    if end != data:
        what = "it was cut short" if data < end else "something was appended"
        raise _BadHeader(f"its header describes {end} bytes of data where {data} follow: {what}")
    starts = {name: 8 + length + start for start, _, name in ranges}
    return tensors, starts, metadata


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise _BadHeader("its header names a tensor twice")
    return out


def _integer(digits: str) -> int:
    if len(digits) > 19:
        # fits no 64-bit field, and Python converts long ones slowly
        raise _BadHeader("its header holds a number that is too large")
    return int(digits)


def _field(name: str, field: Any) -> tuple[Tensor, int, int]:
    def natural(value: Any) -> bool:
        return type(value) is int and value >= 0

    if not isinstance(field, dict) or set(field) != {"dtype", "shape", "data_offsets"}:
        raise _BadHeader(f"the entry of {_short(name)} is not dtype, shape and data_offsets")
    dtype, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _BadHeader(f"the tensor {_short(name)} has the unknown dtype {_short(dtype)}")
    if not isinstance(shape, list) or not all(map(natural, shape)):
        raise _BadHeader(f"the tensor {_short(name)} has a shape that is no list of sizes")
    # The second bound is numpy's: even an empty array's sizes must multiply to an address.
    room = math.prod(max(n, 1) for n in shape[: MAX_DIMENSIONS + 1])
    if len(shape) > MAX_DIMENSIONS or room * DTYPES[dtype].itemsize >= 2**62:
        raise _BadHeader(f"the tensor {_short(name)} has an impossible shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(natural, offsets)):
        raise _BadHeader(f"the tensor {_short(name)} has data_offsets that are no pair of sizes")
    tensor, (start, end) = Tensor(dtype, tuple(shape)), offsets
    if end - start != tensor.bytes:
        raise _BadHeader(
            f"the tensor {_short(name)} needs {tensor.bytes} bytes and has {end - start}"
        )
    return tensor, start, end


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16's bits as uint16 to float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
