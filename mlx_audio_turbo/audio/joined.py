"""FLAC streams and Ogg files: their true lengths, and what was joined into one file.

libsndfile reads the first stream of a file, and of a FLAC stream as many samples as its header
states.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

from .headers import Spliced

_FLAC = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
"""The beginning of a stream: its first block has 34 bytes, whether or not others follow."""
_STREAM_INFO = 8
_MAX_FRAME = 1 << 20
"""Bytes at the end of a stream that are searched for its last frame."""
_ID3V1 = 128
_BLOCK_SIZES = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}} | {
    code: 256 << code - 8 for code in range(8, 16)
}


@dataclass(frozen=True)
class _Frame:
    """A FLAC frame: ``number`` counts frames, or samples where their sizes vary."""

    number: int
    samples: int
    varying: bool

    @property
    def first(self) -> int:
        return self.number if self.varying else self.number * self.samples


def flac_streams(path: Path) -> list[Spliced]:
    """The FLAC streams in a file, each with its true length; empty where the header is right."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        starts = _flac_starts(content)
        parts, wrong = [], len(starts) > 1
        for start, stop in zip(starts, [*starts[1:], len(content)], strict=True):
            info = start + _STREAM_INFO
            if info + 34 > stop:
                break
            fields = int.from_bytes(content[info + 10 : info + 18], "big")
            stated = fields & (1 << 36) - 1
            block = int.from_bytes(content[info : info + 2], "big")
            found = _flac_end(content, info + 34, stop, block)
            if found is None:
                parts.append(Spliced(path, (start, stop)))
                continue
            samples, end = found
            wrong |= samples != stated
            fields = fields - stated + samples
            # The checksum of the samples is that of another number of them: none is stated.
            fixed = fields.to_bytes(8, "big") + bytes(16)
            parts.append(Spliced(path, (start, info + 10), fixed, (info + 34, end)))
        return parts if wrong else []


def _flac_starts(content: mmap.mmap) -> list[int]:
    starts: list[int] = []
    for mark in _FLAC:
        at = content.find(mark)
        while at >= 0:
            starts.append(at)
            at = content.find(mark, at + 1)
    starts.sort()
    # A tag may come first; deeper in a file of another format the mark means nothing.
    first = starts and (starts[0] == 0 or content[:3] == b"ID3")
    return starts if first else []


def _flac_end(content: mmap.mmap, start: int, stop: int, block: int) -> tuple[int, int] | None:
    """Samples of a stream, and where its last whole frame ends."""
    if content[stop - _ID3V1 : stop - _ID3V1 + 3] == b"TAG":
        stop -= _ID3V1
    cut: tuple[int, int] | None = None
    at, least = stop, max(start, stop - _MAX_FRAME)
    while (at := content.rfind(b"\xff", least, at)) >= 0:
        frame = _flac_frame(content[at : at + 16], block)
        if frame is None:
            continue
        if _crc16(content[at:stop]) == 0:
            return frame.first + frame.samples, stop
        if cut is not None:  # the frame before the one that was cut off
            return cut
        cut = frame.first, at
    return cut


def _flac_frame(head: bytes, block: int) -> _Frame | None:
    """The frame whose header ``head`` begins with; None where it is none."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    extra = 0
    while extra < 7 and head[4] << extra & 0x80:
        extra += 1
    if size_code == 0 or rate_code == 15 or extra == 1 or extra > 7:
        return None
    following = max(0, extra - 1)  # as in UTF-8
    number = head[4] & (0x7F >> extra)
    for byte in head[5 : 5 + following]:
        number = number << 6 | byte & 0x3F
    end = 5 + following
    if size_code in (6, 7):
        samples = int.from_bytes(head[end : end + size_code - 5], "big") + 1
        end += size_code - 5
    else:
        samples = _BLOCK_SIZES[size_code]
    end += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if end >= len(head) or _crc8(head[: end + 1]):
        return None
    varying = bool(head[1] & 1)
    if not varying and samples != block:  # the last frame is shorter, and counts like the others
        return _Frame(number * block, samples, True)
    return _Frame(number, samples, varying)


def _table(polynomial: int, bits: int) -> list[int]:
    top, mask, table = 1 << bits - 1, (1 << bits) - 1, []
    for value in range(256):
        rest = value << bits - 8
        for _ in range(8):
            rest = (rest << 1 ^ polynomial if rest & top else rest << 1) & mask
        table.append(rest)
    return table


_CRC8, _CRC16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(content: bytes) -> int:
    """0 for a whole frame header, which ends with its checksum."""
    rest = 0
    for byte in content:
        rest = _CRC8[rest ^ byte]
    return rest


def _crc16(content: bytes) -> int:
    """0 for a whole frame, which ends with its checksum."""
    rest = 0
    for byte in content:
        rest = (rest << 8 & 0xFFFF) ^ _CRC16[rest >> 8 ^ byte]
    return rest


def ogg_links(path: Path) -> list[Spliced]:
    """The recordings of an Ogg file in which several follow each other; else empty."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        starts: list[int] = []
        at, first = content.find(b"OggS"), False
        while at >= 0 and at + 27 <= len(content):
            begins = bool(content[at + 5] & 2)
            if begins and not first:  # a link begins with one such page for each of its streams
                starts.append(at)
            first = begins
            count = content[at + 26]
            length = 27 + count + sum(content[at + 27 : at + 27 + count])
            at = content.find(b"OggS", at + length)
        if len(starts) < 2:
            return []
        stops = [*starts[1:], len(content)]
        return [Spliced(path, link) for link in zip(starts, stops, strict=True)]
