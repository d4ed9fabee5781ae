"""Tensors out of a file of ``torch.save``, without torch and without running what is in it.

Such a file is an uncompressed zip: ``data.pkl`` describes the object and ``data/<key>`` hold the
raw storages. A pickle is a program that may call anything it names. Here its opcodes are compared
with a list of those that make plain data, its size, memo and tensors have bounds, and
``pickle.Unpickler`` then gets stand-ins of our own for the few names that a voice needs; any other
name is refused.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.errors import ModelFolderError

MAX_PROGRAM = 1 << 20
MAX_STORAGE = 1 << 24
"""Bytes of the description and of one storage; a voice has a few kilobytes and 160 of them."""
MAX_VALUES = 1 << 22
"""Values of all tensors together; a voice has 41 thousand."""
MAX_MEMO = 1 << 16

_OPCODES = frozenset(
    (
        *("PROTO", "FRAME", "STOP", "MARK", "POP", "NONE", "NEWTRUE", "NEWFALSE"),
        *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE"),
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"),
        *("SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"),
        *("GLOBAL", "STACK_GLOBAL", "BINPERSID", "REDUCE"),
    )
)
"""Neither objects nor their states can be made with these."""
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class _Refused(Exception):
    """What is wrong, in words."""


def read(path: Path, *, remedy: str = "download it again") -> Any:
    """The object in ``path``; its tensors are numpy arrays.

    Raises:
        ModelFolderError: the file is absent or damaged, or holds anything but plain data; the
            message ends in ``remedy``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive)
            program = _entry(archive, f"{root}data.pkl", MAX_PROGRAM)
            order = f"{root}byteorder"
            if order in archive.namelist() and _entry(archive, order, 16) != b"little":
                raise _Refused("it is not little-endian")
            _check_program(program)
            return _load(program, lambda key: _entry(archive, f"{root}data/{key}", MAX_STORAGE))
    except _Refused as error:
        raise ModelFolderError(f"{path} is not a plain voice file: {error}; {remedy}") from None
    except (
        OSError,
        EOFError,
        RuntimeError,  # an encrypted entry; an unknown compression
        ValueError,
        struct.error,
        zipfile.BadZipFile,
    ) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); {remedy}") from None


def _root(archive: zipfile.ZipFile) -> str:
    found = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(found) != 1:
        raise _Refused(f"it has {len(found)} data.pkl")
    return found[0].removesuffix("data.pkl")


def _entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise _Refused(f"it lacks {name[:100]!r}") from None
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
        raise _Refused(f"{name[:100]!r} is compressed or over {limit} bytes")
    return archive.read(info)


def _check_program(program: bytes) -> None:
    tuples: set[int] = set()
    memo, before = 0, ""
    try:
        for opcode, argument, _ in pickletools.genops(program):
            if opcode.name not in _OPCODES:
                raise _Refused(f"it has the opcode {opcode.name}")
            if opcode.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
                slot = memo if argument is None else int(argument)
                memo += 1
                if slot > MAX_MEMO:
                    raise _Refused("it remembers too much")
                if "TUPLE" in before:
                    tuples.add(slot)
            if opcode.name in ("BINGET", "LONG_BINGET") and argument in tuples:
                # tuples nested in this way take exponential time to hash
                raise _Refused("it uses a tuple twice")
            before = opcode.name
        # follows the stack: nothing may be left on it, nothing taken from below it
        with open(os.devnull, "w", encoding="utf-8") as out:
            pickletools.dis(program, out=out)
    except (ValueError, IndexError, KeyError) as error:
        raise _Refused(f"its description does not hold together ({error})") from None


def _load(program: bytes, storage: Callable[[str], bytes]) -> Any:
    try:
        value = _Unpickler(program, storage).load()
    except (
        pickle.UnpicklingError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        OverflowError,
    ) as error:
        raise _Refused(f"its description does not hold together ({error})") from None
    pending, seen = [value], set()
    while pending:
        each = pending.pop()
        if isinstance(each, dict) and id(each) not in seen:
            seen.add(id(each))
            if not all(isinstance(key, (str, int)) for key in each):
                raise _Refused("a key is neither text nor number")
            pending += each.values()
    return value


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for what a tensor needs and finds nothing else."""

    def __init__(self, program: bytes, storage: Callable[[str], bytes]):
        super().__init__(io.BytesIO(program))
        self._storage = storage
        self._room = MAX_VALUES

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if (module, name) == ("collections", "OrderedDict"):
            return lambda: {}
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise _Refused(f"it names {module}.{name}"[:110] + ", which is not run")

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The values (count,) of ("storage", kind, key, device, count)."""
        tag, kind, key, _, count = pid
        if tag != "storage" or not isinstance(kind, np.dtype):
            raise _Refused("it has a storage of an unknown kind")
        if not isinstance(key, str) or not key.isdecimal():
            raise _Refused("it has a storage of an unknown key")
        flat = np.frombuffer(self._storage(key), kind)
        if type(count) is not int or len(flat) != count:
            raise _Refused(f"storage {key} has {len(flat)} values, not {count}")
        return flat

    def _tensor(self, flat: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
        numbers = (offset, *shape, *strides)
        if not isinstance(flat, np.ndarray) or flat.ndim != 1 or len(shape) != len(strides):
            raise _Refused("it has a tensor without a storage")
        if len(shape) > 8 or not all(type(n) is int and 0 <= n <= MAX_VALUES for n in numbers):
            raise _Refused("it has a tensor of an impossible shape")
        places, size = np.array(offset), 1
        for extent, stride in zip(shape, strides, strict=True):
            size *= extent
            if size > self._room:
                raise _Refused(f"its tensors have over {MAX_VALUES} values")
            places = places[..., None] + stride * np.arange(extent)
        if size and int(places.max()) >= len(flat):
            raise _Refused("it has a tensor beyond its storage")
        self._room -= size
        return flat[places]
