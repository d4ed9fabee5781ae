"""Long text → segments of whole sentences, at most about 300 characters each.

A segment ends after a sentence if possible, else after a clause, else after a word. It never ends
inside a tag such as ``[clear throat]``, and inside an abbreviation, a number or a quotation only if
there is no other place within the limit. The time is linear in the length of the text.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from numbers import Integral
from typing import Literal

from ..errors import OptionError
from ..options import MIN_SEGMENT_LIMIT, SEGMENT_LIMIT, PauseOptions
from .sentences import find_breaks, find_tags

MAX_BYTES = 1000
"""Bytes of a segment in UTF-8, unless the limit is higher. A byte may be a token; 1,024 fit."""
PARAGRAPH_GLUE = "\n\n"
_LONG_CHARACTERS = (
    (re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"), 3.5),
    (re.compile("[\u3041-\u30ff\u31f0-\u31ff]"), 2.0),
    (re.compile("[\uac00-\ud7a3]"), 2.5),
)
"""How many letters of an alphabet take as long to say as a Chinese glyph, a kana, a syllable of
Korean: English is about 15 letters a second, Mandarin 4 to 5 syllables, Japanese 7 to 8 morae,
Korean 6 syllables."""
_LINE_END = re.compile("\r\n|[\n\r\u2028]")

Pause = Literal["word", "clause", "sentence", "paragraph", "end", "open"]


@dataclass(frozen=True)
class Segment:
    """A part of the text that is spoken as one utterance.

    pause: what ends here; it sets the silence that follows. ``open`` is not known yet.
    glue: what stands between this segment and the next: a space, a paragraph break, or nothing.
    """

    text: str
    pause: Pause
    glue: str

    @property
    def speakable(self) -> bool:
        """Whether it has a letter or digit. ``* * *`` between two scenes is a pause only."""
        return any(character.isalnum() for character in self.text)


def pause_after(segment: Segment, pauses: PauseOptions) -> float:
    """Seconds of silence between ``segment`` and the next one; none after the last."""
    return 0.0 if segment.pause in ("end", "open") else getattr(pauses, segment.pause)


def normalize_spaces(text: str) -> str:
    """Fold white space: one space between words, one blank line between paragraphs, none around.

    Blank lines and U+2029 separate paragraphs; a single line break is a space. Lines end with a
    line feed, a carriage return, both, or U+2028. A form feed, and whatever else Python counts as
    a line break, is white space within a line: page breaks stand in the middle of sentences.
    """
    lines = (line.split() for line in _LINE_END.split(text.replace("\u2029", PARAGRAPH_GLUE)))
    paragraphs = (
        " ".join(chain.from_iterable(group)) for filled, group in groupby(lines, bool) if filled
    )
    return PARAGRAPH_GLUE.join(paragraphs)


def split_text(text: str, *, limit: int = SEGMENT_LIMIT, by_script: bool = False) -> list[Segment]:
    """Split ``text`` into segments of at most ``limit`` characters.

    Args:
        by_script: ``limit`` counts letters of an alphabet. Paragraphs in Chinese, Japanese and
            Korean, whose characters take longer to say, get a lower one, so that a segment is
            about as long in seconds.

    No segment is empty or crosses a paragraph break. Where characters take up to four bytes, as in
    some scripts and with emoji, a segment has at most 1,000 bytes too.

    ``"".join(s.text + s.glue for s in split_text(text)) == normalize_spaces(text)``, exactly.
    Text of white space only gives no segment.

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
    limits = (_limit_of(each, limit) if by_script else limit for each in paragraphs)
    packed = (
        s
        for paragraph, most in zip(paragraphs, limits, strict=True)
        for s in _pack_paragraph(paragraph, most)
    )
    segments = [part for segment in packed for part in within_bytes(segment, limit)]
    if segments:
        segments[-1] = replace(segments[-1], pause="end", glue="")
    return segments


def resplit(segment: Segment) -> list[Segment]:
    """Split a segment that could not be spoken whole, into at most two thirds of its length each.

    The last part keeps the pause and the glue. A segment of up to 40 characters stays whole.
    """
    parts = split_text(segment.text, limit=max(MIN_SEGMENT_LIMIT, 2 * len(segment.text) // 3))
    parts[-1] = replace(parts[-1], pause=segment.pause, glue=segment.glue)
    return parts


def _limit_of(paragraph: str, limit: int) -> int:
    """The characters of ``paragraph`` that take as long to say as ``limit`` letters."""
    if paragraph.isascii():
        return limit
    return round(limit * len(paragraph) / letters_of(paragraph))


def letters_of(text: str) -> float:
    """How many letters of an alphabet take as long to say as ``text``."""
    if text.isascii():
        return len(text)
    return len(text) + sum(
        (weight - 1) * len(characters.findall(text)) for characters, weight in _LONG_CHARACTERS
    )


def within_bytes(segment: Segment, limit: int) -> list[Segment]:
    """``segment``, split by :func:`resplit` if it has more bytes than the model reads.

    Args:
        limit: of a segment, in characters.
    """
    size = 0 if segment.text.isascii() else len(segment.text.encode("utf-8", "surrogatepass"))
    parts = resplit(segment) if size > max(limit, MAX_BYTES) else []
    return parts if len(parts) > 1 else [segment]


def first_part(paragraph: str, limit: int) -> Segment:
    """The first segment of a paragraph (white space folded) of at most ``limit`` characters."""
    return next(_pack_paragraph(paragraph, limit))


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
        self._short = limit // 15  # a word or two: too short for an utterance
        self._end = len(paragraph)
        self._tags = find_tags(paragraph)
        self._at = find_breaks(paragraph, limit)

    def choose(self, start: int) -> tuple[int, Pause]:
        """Where the segment from ``start`` ends, if the paragraph does not end within the limit."""
        least, most = start + self._short, start + self._limit
        sentences = self._at["sentence"]
        if (stop := _last(sentences, least, most)) is not None:
            if self._end - stop <= self._short:
                # Leave a whole sentence for the paragraph's last segment rather than a word.
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
