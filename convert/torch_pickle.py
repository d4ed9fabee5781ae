"""Tensors out of a file of ``torch.save``, without torch and without running what is in it.

Such a file is an uncompressed zip: ``data.pkl`` describes the object and ``data/<key>`` hold the
raw storages. A pickle is a program; Python's own reader runs it and may call anything it names.
Here the opcodes are only listed (by ``pickletools``, which runs none of them) and a short
interpreter makes dicts, lists, tuples, texts, numbers and tensors of them. It knows two calls, a
tensor's rebuilding and an empty ordered dict, both done here; whatever else a file asks for is
refused by name.
"""

from __future__ import annotations

import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.errors import ModelFolderError

MAX_PROGRAM = 1 << 20
MAX_STORAGE = 1 << 24
"""Bytes of the description and of one storage; a voice has a few kilobytes and 160 of them."""
MAX_VALUES = 1 << 22
"""Values of all tensors together; a voice has 41 thousand."""

_STORAGES = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
    "torch ShortStorage": np.dtype("<i2"),
    "torch CharStorage": np.dtype("i1"),
    "torch ByteStorage": np.dtype("u1"),
    "torch BoolStorage": np.dtype("?"),
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_DICT = "collections OrderedDict"


class _Refused(Exception):
    """What is wrong, in words."""


@dataclass(frozen=True)
class _Name:
    """A global that the file names: a word, never the thing."""

    name: str


_MARK = object()


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
            return _interpret(
                program, lambda key: _entry(archive, f"{root}data/{key}", MAX_STORAGE)
            )
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


def _interpret(program: bytes, storage: Callable[[str], bytes]) -> Any:
    """Run the data-making opcodes of ``program`` and refuse the others."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    room = MAX_VALUES
    argument: Any

    def pop_mark() -> list[Any]:
        start = max(i for i, item in enumerate(stack) if item is _MARK)
        items = stack[start + 1 :]
        del stack[start:]
        return items

    def fill(target: Any, pairs: list[Any]) -> None:
        if type(target) is not dict or len(pairs) % 2:
            raise _Refused("it fills what is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise _Refused("a key is neither text nor number")
            target[key] = value

    try:
        for opcode, argument, _ in pickletools.genops(program):
            match opcode.name:
                case "PROTO" | "FRAME":
                    pass
                case "STOP":
                    (result,) = stack
                    return result
                case "MARK":
                    stack.append(_MARK)
                case "POP":
                    stack.pop()
                case "EMPTY_DICT":
                    stack.append({})
                case "EMPTY_LIST":
                    stack.append([])
                case "EMPTY_TUPLE":
                    stack.append(())
                case "NONE":
                    stack.append(None)
                case "NEWTRUE" | "NEWFALSE":
                    stack.append(opcode.name == "NEWTRUE")
                case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                    stack.append(argument)
                case "BINUNICODE" | "SHORT_BINUNICODE":
                    stack.append(argument)
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    count = int(opcode.name[-1])
                    items = tuple(stack[-count:])
                    if len(items) < count:
                        raise IndexError
                    stack[-count:] = [items]
                case "TUPLE":
                    stack.append(tuple(pop_mark()))
                case "SETITEM":
                    value, key = stack.pop(), stack.pop()
                    fill(stack[-1], [key, value])
                case "SETITEMS":
                    pairs = pop_mark()
                    fill(stack[-1], pairs)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "GLOBAL":
                    stack.append(_Name(_known(argument)))
                case "STACK_GLOBAL":
                    name, module = stack.pop(), stack.pop()
                    stack.append(_Name(_known(f"{module} {name}")))
                case "BINPERSID":
                    stack.append(_storage(stack.pop(), storage))
                case "REDUCE":
                    arguments, function = stack.pop(), stack.pop()
                    made = _call(function, arguments, room=room)
                    room -= made.size if isinstance(made, np.ndarray) else 0
                    stack.append(made)
                case other:
                    raise _Refused(f"it has the opcode {other}")
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise _Refused(f"its description does not hold together ({error})") from None
    raise _Refused("its description has no end")


def _known(name: str) -> str:
    if name not in (_TENSOR, _DICT) and name not in _STORAGES:
        raise _Refused(f"it names {name.replace(' ', '.')[:100]}, which is not run")
    return name


def _storage(description: Any, storage: Callable[[str], bytes]) -> np.ndarray:
    """A persistent id, ("storage", kind, key, device, count), as its (count,) values."""
    tag, kind, key, _, count = description
    if tag != "storage" or not isinstance(kind, _Name) or kind.name not in _STORAGES:
        raise _Refused("it has a storage of an unknown kind")
    if not isinstance(key, str) or not key.isdecimal():
        raise _Refused("it has a storage of an unknown key")
    flat = np.frombuffer(storage(key), _STORAGES[kind.name])
    if type(count) is not int or len(flat) != count:
        raise _Refused(f"storage {key} has {len(flat)} values, not {count}")
    return flat


def _call(function: Any, arguments: Any, *, room: int) -> Any:
    if not isinstance(function, _Name) or type(arguments) is not tuple:
        raise _Refused("it calls what is no function")
    if function.name == _DICT and arguments == ():
        return {}
    if function.name != _TENSOR:
        raise _Refused(f"it calls {function.name.replace(' ', '.')}")
    flat, offset, shape, strides, *_ = arguments
    numbers = (offset, *shape, *strides)
    if not isinstance(flat, np.ndarray) or flat.ndim != 1 or len(shape) != len(strides):
        raise _Refused("it has a tensor without a storage")
    if len(shape) > 8 or not all(type(n) is int and 0 <= n <= MAX_VALUES for n in numbers):
        raise _Refused("it has a tensor of an impossible shape")
    places = np.array(offset)
    size = 1
    for extent, stride in zip(shape, strides, strict=True):
        size *= extent
        if size > room:
            raise _Refused(f"its tensors have over {MAX_VALUES} values")
        places = places[..., None] + stride * np.arange(extent)
    if size and int(places.max()) >= len(flat):
        raise _Refused("it has a tensor beyond its storage")
    return flat[places]
