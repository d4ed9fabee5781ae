"""The frames of an mp3 file, counted, and the file behind a frame that states their number.

Without such a frame libmpg123 guesses the length from the first bit rate.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .headers import Spliced

_FRAME_COUNTS = (b"Xing", b"Info", b"VBRI")
_XING_OFFSETS = {(3, False): 36, (3, True): 21, (2, False): 21, (2, True): 13}
"""Of the frame count's mark in an mp3 frame, by MPEG version (3 is MPEG-1) and mono."""
_BITRATES = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Kilobits per second of MPEG-1 and of MPEG-2 and 2.5, layer III."""
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


@dataclass(frozen=True)
class Mp3:
    """The frames of an mp3 file.

    header: of the first frame with audio, whose position is ``start``.
    """

    frames: int
    header: int
    start: int
    stop: int

    @property
    def samples_per_frame(self) -> int:
        return 1152 if _version(self.header) == 3 else 576

    @property
    def samples(self) -> int:
        return self.frames * self.samples_per_frame


def count(path: Path) -> Mp3 | None:
    """Count the frames of an mp3 file by their headers; None for files of other kinds."""
    if path.stat().st_size < 4:
        return None
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        frames, first, start, stop = 0, None, 0, 0
        for position, header, length in _frames(content):
            if position + length > len(content):
                break
            stop = position + length
            if first is None:
                first, start = header, position
                if any(mark in content[position : position + 64] for mark in _FRAME_COUNTS):
                    start = stop  # states a number of frames, and holds no audio
                    continue
            frames += 1
        return Mp3(frames, first, start, stop) if first is not None and frames else None


def _frames(content: mmap.mmap) -> Iterator[tuple[int, int, int]]:
    """Position, header and length of each frame; all have the version and rate of the first."""
    position, kind, end = 0, None, len(content)
    while position + 4 <= end:
        if content[position : position + 3] == b"ID3" and position + 10 <= end:
            a, b, c, d = content[position + 6 : position + 10]
            position += 10 + (a << 21 | b << 14 | c << 7 | d)
            continue
        header = int.from_bytes(content[position : position + 4], "big")
        length = _frame_length(header)
        if length and (kind is None or header & 0xFFFE0C00 == kind):
            following = position + length
            alone = following + 4 > end
            next_header = int.from_bytes(content[following : following + 4], "big")
            if alone or kind is not None or _frame_length(next_header):
                kind = header & 0xFFFE0C00
                yield position, header, length
                position = following
                continue
        if kind is None and position > 1 << 16:
            return  # no mp3
        position = content.find(b"\xff", position + 1)
        if position < 0:
            return


def _version(header: int) -> int:
    """3 for MPEG-1, 2 for MPEG-2 and MPEG-2.5."""
    return 3 if header >> 19 & 3 == 3 else 2


def _frame_length(header: int) -> int:
    """Bytes of the layer III frame that has this header; 0 where it is none."""
    version, layer = header >> 19 & 3, header >> 17 & 3
    bitrate, rate = header >> 12 & 15, header >> 10 & 3
    if header >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kilobits = _BITRATES[_version(header)][bitrate]
    factor = 144_000 if version == 3 else 72_000
    return factor * kilobits // _RATES[version][rate] + (header >> 9 & 1)


def with_frame_count(path: Path, mp3: Mp3) -> Spliced:
    """The mp3 file behind a frame that states the true number of frames."""
    mono = mp3.header >> 6 & 3 == 3
    # The frame's own bit rate only has to make room: 128 kbit/s in MPEG-1, 64 in MPEG-2. The bit
    # that is set says that no checksum follows.
    header = mp3.header & ~0xF200 | (0x9000 if _version(mp3.header) == 3 else 0x8000) | 0x10000
    frame = bytearray(_frame_length(header))
    frame[:4] = header.to_bytes(4, "big")
    offset = _XING_OFFSETS[_version(mp3.header), mono]
    frame[offset : offset + 12] = b"Xing" + struct.pack(">II", 1, mp3.frames)
    return Spliced(path, bytes(frame), (mp3.start, mp3.stop))
