"""Audio files whose headers state a wrong length, as libsndfile can read them whole.

A length in a header is a hint. libsndfile reads no more than it states, so a file whose content
says otherwise is presented to it with a header that fits. Recordings that were joined into one file
are presented one by one.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_UNKNOWN = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
"""Data lengths of recorders that never returned to fill in the header."""
_CHUNKS = (b"LIST", b"fact", b"cue ", b"id3 ", b"ID3 ", b"bext", b"iXML", b"PEAK", b"smpl", b"JUNK")
_DS64 = struct.Struct("<4sIQQQ")
"""The first chunk of RF64: name, length, and the lengths of the file, the data and the samples."""


class Spliced(io.RawIOBase):
    """A read-only file made of bytes and of ranges of another file, in order."""

    def __init__(self, path: Path, *parts: bytes | tuple[int, int]):
        """``parts``: bytes, or (start, stop) of the file at ``path``."""
        self._file = open(path, "rb")  # noqa: SIM115 — closed with this object
        self._parts = parts
        self._sizes = [len(p) if isinstance(p, bytes) else p[1] - p[0] for p in parts]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: sum(self._sizes)}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore
        start = 0
        for part, size in zip(self._parts, self._sizes, strict=True):
            inside = self._position - start
            if 0 <= inside < size:
                count = min(len(buffer), size - inside)
                if isinstance(part, bytes):
                    content = part[inside : inside + count]
                else:
                    self._file.seek(part[0] + inside)
                    content = self._file.read(count)
                buffer[: len(content)] = content
                self._position += len(content)
                return len(content)
            start += size
        return 0

    def close(self) -> None:
        self._file.close()
        super().close()


@dataclass(frozen=True)
class _Container:
    """A format made of chunks: a name and a length, then as many bytes.

    form: what stands at byte 8, for formats that have a form there.
    start: of the first chunk. length: of the chunks, for ``struct``. data: the chunk of samples.
    """

    form: tuple[bytes, ...]
    start: int
    length: str
    data: bytes
    aligned: bool = True


_CONTAINERS = {
    b"RIFF": _Container((b"WAVE",), 12, "<I", b"data"),
    b"RIFX": _Container((b"WAVE",), 12, ">I", b"data"),
    b"RF64": _Container((b"WAVE",), 12, "<I", b"data"),
    b"BW64": _Container((b"WAVE",), 12, "<I", b"data"),
    b"FORM": _Container((b"AIFF", b"AIFC"), 12, ">I", b"SSND"),
    b"caff": _Container((), 8, ">Q", b"data", aligned=False),
}


@dataclass(frozen=True)
class _Data:
    """Where the samples of a recording are; ``stated`` is their length by its header."""

    start: int
    stop: int
    stated: int


def recordings(path: Path) -> list[io.RawIOBase]:
    """The recordings in a file whose header is wrong, or that others were appended to.

    Empty where the header is right, and for formats that are not made of chunks.
    """
    size = path.stat().st_size
    parts: list[io.RawIOBase] = []
    wrong, start = False, 0
    with open(path, "rb") as file:
        if (au := _au(file, path, size)) is not None:
            return [au]
        while (kind := _container(file, start)) is not None:
            data = _find_data(file, kind, start, size)
            if data is None:
                break
            length = data.stop - data.start
            wide = kind.length == ">Q" or _is_rf64(file, start)
            if length > 0xFFFFFFF0 and not wide:
                return []  # longer than its header can state; libsndfile has rules for it
            wrong |= data.stated != length
            file.seek(start)
            header = bytearray(file.read(data.start - start))
            _state(header, kind, length)
            parts.append(Spliced(path, bytes(header), (data.start, data.stop)))
            start = data.stop + (length % 2 if kind.aligned else 0)
    return parts if wrong or len(parts) > 1 else []


def _container(file: BinaryIO, start: int) -> _Container | None:
    file.seek(start)
    head = file.read(12)
    kind = _CONTAINERS.get(head[:4])
    return kind if kind and (not kind.form or head[8:12] in kind.form) else None


def _is_rf64(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    return file.read(4) in (b"RF64", b"BW64")


def _find_data(file: BinaryIO, kind: _Container, start: int, size: int) -> _Data | None:
    """The samples of the recording that begins at ``start``."""
    position = start + kind.start
    field = struct.calcsize(kind.length)
    long = None
    while position + 4 + field <= size:
        file.seek(position)
        name = file.read(4)
        (length,) = struct.unpack(kind.length, file.read(field))
        if name == b"ds64" and length >= 24:
            long = struct.unpack("<QQQ", file.read(24))[1]
        if name != kind.data:
            position += 4 + field + length + (length % 2 if kind.aligned else 0)
            continue
        if long is not None and length == 0xFFFFFFFF:
            length = long
        data = position + 4 + field
        stop = data + length
        if length in _UNKNOWN or stop > size:
            return _Data(data, size, length)
        following = stop + (length % 2 if kind.aligned else 0)
        right = _begins_chunk(file, kind, following, size)
        return _Data(data, stop if right else size, length)
    return None


def _begins_chunk(file: BinaryIO, kind: _Container, position: int, size: int) -> bool:
    """Whether the file ends at ``position``, or a chunk or another recording begins there."""
    if position + 4 > size:
        return True
    file.seek(position)
    name = file.read(4)
    if name in _CONTAINERS or name in _CHUNKS or name[:3] == b"TAG":
        return True
    content = file.read(struct.calcsize(kind.length))
    if len(content) < struct.calcsize(kind.length) or not all(0x20 <= byte < 0x7F for byte in name):
        return False
    return position + 4 + len(content) + struct.unpack(kind.length, content)[0] <= size


def _state(header: bytearray, kind: _Container, length: int) -> None:
    """Make a header state that ``length`` bytes of samples follow it."""
    field = struct.calcsize(kind.length)
    rf64 = header[:4] in (b"RF64", b"BW64") and header[12:16] == b"ds64"
    if rf64:
        name, size, *_ = _DS64.unpack_from(header, 12)
        _DS64.pack_into(header, 12, name, size, len(header) + length - 8, length, 0)
        return
    if kind.form:
        struct.pack_into(kind.length, header, 4, len(header) + length - 8)
    header[-field:] = struct.pack(kind.length, length)


def _au(file: BinaryIO, path: Path, size: int) -> io.RawIOBase | None:
    """An AU file with the right length; None where it states it, and for other formats."""
    file.seek(0)
    head = file.read(12)
    order = {b".snd": ">", b"dns.": "<"}.get(head[:4])
    if order is None or len(head) < 12:
        return None
    offset, length = struct.unpack(order + "II", head[4:])
    rest = size - offset
    if length in (rest, 0xFFFFFFFF) or not 12 <= offset <= size or rest > 0xFFFFFFF0:
        return None
    return Spliced(path, head[:8] + struct.pack(order + "I", rest), (12, size))
