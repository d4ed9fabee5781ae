"""Long text to segments that the model speaks well: whole sentences, at most about 300 characters.

A segment ends after a sentence where it can, else after a clause, else after a word. Never inside
a tag such as ``[clear throat]``; not inside an abbreviation, a number or a quotation that fits,
unless there is no other place within the limit. All is linear in the length of the text.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from numbers import Integral
from typing import Literal

from ..errors import OptionError
from ..options import MIN_SEGMENT_LIMIT, SEGMENT_LIMIT, PauseOptions
from .sentences import find_breaks, find_tags

MAX_BYTES = 1000
"""Of a segment in UTF-8, unless the limit is higher: a byte may be a token, and 1,024 fit."""
PARAGRAPH_GLUE = "\n\n"

Pause = Literal["word", "clause", "sentence", "paragraph", "end"]


@dataclass(frozen=True)
class Segment:
    """What is spoken in one go.

    ``pause`` tells what ends here, and ``glue`` what stood between this segment and the next: a
    space, a paragraph break, or nothing.
    """

    text: str
    pause: Pause
    glue: str

    @property
    def speakable(self) -> bool:
        """Whether there is anything to say: ``* * *`` between two scenes is but a pause."""
        return any(character.isalnum() for character in self.text)


def pause_after(segment: Segment, pauses: PauseOptions) -> float:
    """Seconds of silence between ``segment`` and the next one; none after the last."""
    return 0.0 if segment.pause == "end" else getattr(pauses, segment.pause)


def normalize_spaces(text: str) -> str:
    """Fold white space: one space between words, one blank line between paragraphs, none around.

    One or more blank lines, or U+2029, part paragraphs; a single line break is a space.
    """
    lines = (line.split() for line in text.replace("\u2029", PARAGRAPH_GLUE).splitlines())
    paragraphs = (
        " ".join(chain.from_iterable(group)) for filled, group in groupby(lines, bool) if filled
    )
    return PARAGRAPH_GLUE.join(paragraphs)


def pack(text: str, *, limit: int = SEGMENT_LIMIT) -> list[Segment]:
    """Segments of at most ``limit`` characters, none empty, none across a paragraph break.

    Where letters take four bytes, as in a few scripts and with emoji, also of at most 1,000 bytes.

    ``"".join(s.text + s.glue for s in pack(text)) == normalize_spaces(text)``, to the letter. Text
    of white space only gives no segment.

    Raises:
        OptionError: ``limit`` is below 40.
    """
    if not isinstance(limit, Integral):
        raise OptionError(f"the limit is {limit!r} characters; give a whole number")
    if limit < MIN_SEGMENT_LIMIT:
        raise OptionError(
            f"a limit of {limit} characters is too low; give at least {MIN_SEGMENT_LIMIT}"
        )
    paragraphs = normalize_spaces(text).split(PARAGRAPH_GLUE)
    packed = (s for paragraph in paragraphs for s in _pack_paragraph(paragraph, limit))
    segments = [s for segment in packed for s in _within_bytes(segment, max(limit, MAX_BYTES))]
    if segments:
        segments[-1] = replace(segments[-1], pause="end", glue="")
    return segments


def split_again(segment: Segment) -> list[Segment]:
    """Segments of at most two thirds of the length, for one that could not be spoken whole.

    The last one keeps the pause and the glue. A segment of up to 40 characters comes back alone.
    """
    parts = pack(segment.text, limit=max(MIN_SEGMENT_LIMIT, 2 * len(segment.text) // 3))
    parts[-1] = replace(parts[-1], pause=segment.pause, glue=segment.glue)
    return parts


def _within_bytes(segment: Segment, most: int) -> list[Segment]:
    """``segment``, or what :func:`split_again` makes of one that has more bytes than ``most``."""
    size = 0 if segment.text.isascii() else len(segment.text.encode("utf-8", "surrogatepass"))
    parts = split_again(segment) if size > most else []
    return parts if len(parts) > 1 else [segment]


def _pack_paragraph(paragraph: str, limit: int) -> Iterator[Segment]:
    start = 0
    if len(paragraph) > limit:
        breaks = _Breaks(paragraph, limit)
        while len(paragraph) - start > limit:
            stop, pause = breaks.choose(start)
            after = stop + (paragraph[stop] == " ")
            yield Segment(paragraph[start:stop], pause, paragraph[stop:after])
            start = after
    if paragraph:
        yield Segment(paragraph[start:], "paragraph", PARAGRAPH_GLUE)


class _Breaks:
    """Chooses where the segments of one paragraph end."""

    def __init__(self, paragraph: str, limit: int) -> None:
        self._limit = limit
        self._short = limit // 15  # a word or two, not worth an utterance of their own
        self._end = len(paragraph)
        self._tags = find_tags(paragraph)
        self._at = find_breaks(paragraph, limit)

    def choose(self, start: int) -> tuple[int, Pause]:
        """Where the segment from ``start`` ends, if the paragraph does not end within the limit."""
        least, most = start + self._short, start + self._limit
        sentences = self._at["sentence"]
        if (stop := _last(sentences, least, most)) is not None:
            if self._end - stop <= self._short:
                # Hand a sentence over to the paragraph's last segment rather than end on a word.
                stop = _last(sentences, least, self._end - self._short - 1) or stop
            return stop, "sentence"
        following = bisect.bisect_right(sentences, most)
        rest = (sentences[following] if following < len(sentences) else self._end) - start
        even = start + rest // math.ceil(rest / self._limit)
        if (stop := _nearest(self._at["clause"], least, most, even)) is not None:
            return stop, "clause"
        if (stop := _last(sentences, start + 1, most)) is not None:
            return stop, "sentence"
        if (stop := _nearest(self._at["word"], start + 1, most, even)) is not None:
            return stop, "word"
        if (stop := _last(self._at["held"], start + 1, most)) is not None:
            return stop, "word"
        tag = bisect.bisect_left(self._tags, (most, most)) - 1
        if tag >= 0 and self._tags[tag][1] > most:
            most = self._tags[tag][0]
        return most, "word"


def _last(positions: list[int], least: int, most: int) -> int | None:
    index = bisect.bisect_right(positions, most) - 1
    return positions[index] if index >= 0 and positions[index] >= least else None


def _nearest(positions: list[int], least: int, most: int, target: int) -> int | None:
    index = bisect.bisect_left(positions, target)
    near = [p for p in positions[max(0, index - 1) : index + 1] if least <= p <= most]
    return min(near, key=lambda p: abs(p - target), default=None)
