"""Files as ``torch.save`` writes them, byte by byte, without torch."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_KINDS = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
}


def text(value: str) -> bytes:
    """BINUNICODE."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """BININT."""
    return b"J" + struct.pack("<i", value)


def name(module: str, attribute: str) -> bytes:
    """GLOBAL: what a pickle may ask its reader to import."""
    return f"c{module}\n{attribute}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def tensor(array: np.ndarray, key: str) -> bytes:
    """A call of torch's rebuilding, with the storage by its persistent id."""
    storage = tuple_of(
        text("storage"),
        name("torch", _KINDS[array.dtype.name]),
        text(key),
        text("cpu"),
        number(array.size),
    )
    strides = [stride // array.itemsize for stride in array.strides]
    arguments = tuple_of(
        storage + b"Q",
        number(0),
        tuple_of(*map(number, array.shape)),
        tuple_of(*map(number, strides)),
        b"\x89",
        name("collections", "OrderedDict") + b")R",
    )
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def program(body: bytes) -> bytes:
    """Protocol 2 around one object."""
    return b"\x80\x02" + body + b"."


def write(path: Path, contents: dict[str, Any]) -> Path:
    """Save nested dicts of contiguous arrays and Nones."""
    storages: list[bytes] = []

    def encode(value: Any) -> bytes:
        if value is None:
            return b"N"
        if isinstance(value, dict):
            items = b"".join(text(key) + encode(item) for key, item in value.items())
            return b"}(" + items + b"u"
        storages.append(value.tobytes())
        return tensor(value, str(len(storages) - 1))

    return write_program(path, program(encode(contents)), storages)


def write_program(path: Path, pickled: bytes, storages: list[bytes] | None = None) -> Path:
    """The zip around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
        for key, storage in enumerate(storages or []):
            archive.writestr(f"archive/data/{key}", storage)
    return path
