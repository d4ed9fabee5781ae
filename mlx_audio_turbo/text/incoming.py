"""Text that comes in pieces, as a language model writes it → segments, each as soon as it is whole.

A segment is as few whole sentences of a paragraph as have a fifteenth of the limit (20 characters),
since a model speaks a word or two badly. A sentence is whole when the word after it, a blank line
or the end of the text has come. One that grows past the limit is split after a clause, else a word.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import TextError
from .normalize import SOFT_HYPHEN, drop_invisible
from .segments import PARAGRAPH_GLUE, Pause, Segment, first_part, letters_of, within_bytes
from .sentences import UNSPACED_ENDINGS, find_breaks

_LINE_ENDS = "\n\r\u2028"
_LONG_WORD = 16
"""No list of abbreviations or first words has a longer one: the rest of the word says no more."""


class Incoming:
    """The segments of one text.

    The text is taken a character at a time, so that the pieces that it came in cannot matter.

    Args:
        limit: of a segment, in letters of an alphabet; see :func:`split_text`.
    """

    def __init__(self, limit: int):
        self._limit, self._least = limit, limit // 15
        self._text, self._letters = "", 0.0  # of the segment that grows, white space folded
        self._word = 0  # characters of its last word
        self._spaced, self._lines, self._last = False, 0, ""  # the white space since then
        self._hyphen = False  # a soft hyphen came last: a line break after it divides a word
        self._owed: Pause | None = (
            None  # what ended with the last segment, where more text shows it
        )
        self._spoke = False

    def push(self, piece: str) -> Iterator[Segment]:
        """The segments that ``piece`` makes whole.

        After a paragraph it is not known whether the text goes on: the segment has the pause
        ``open``, and one without text follows, which has the pause.
        """
        for character in piece:
            yield from self._take(character)

    def finish(self) -> Iterator[Segment]:
        """The rest. The last segment has the pause ``end``, and maybe no text.

        Raises:
            TextError: the text has nothing to say.
        """
        yield from self._sentences()
        self._spoke = self._spoke or Segment(self._text, "end", "").speakable
        if not self._spoke:
            raise TextError("the text has no letter or digit; give at least one word to say")
        yield from self._give(self._text, "end", "") if self._text else [Segment("", "end", "")]

    def _take(self, character: str) -> Iterator[Segment]:
        if character.isspace():
            yield from self._space(character)
            return
        if character == SOFT_HYPHEN:
            self._hyphen = True
        if not drop_invisible(character):
            return
        if self._spaced and self._text and not (self._hyphen and self._lines):
            self._grow(" ")
            self._word = 0
        self._spaced, self._lines, self._hyphen, self._last = False, 0, False, character
        self._grow(character)
        self._word += 1
        if self._letters > self._limit:
            yield from self._sentences()
            if self._letters > self._limit:
                part = first_part(self._text, len(self._text) - 1)
                yield from self._cut(len(part.text), part.pause, part.glue)
        elif self._text[-2:-1] in UNSPACED_ENDINGS or self._word == _LONG_WORD:
            yield from self._sentences()

    def _space(self, character: str) -> Iterator[Segment]:
        if not self._spaced and not self._hyphen:
            yield from self._sentences()
        self._spaced = True
        if character == "\u2029":
            self._lines += 2
        elif character in _LINE_ENDS and self._last + character != "\r\n":
            self._lines += 1
        self._last = character
        if self._lines > 1 and self._text and not self._hyphen:
            yield from self._cut(len(self._text), "open", PARAGRAPH_GLUE)
            self._owed = "paragraph"

    def _grow(self, character: str) -> None:
        self._text += character
        self._letters += letters_of(character)

    def _sentences(self) -> Iterator[Segment]:
        """Cut off the sentences that the last word shows to be whole."""
        ended = True
        while ended:
            ended = False
            for stop in find_breaks(self._text, 0)["sentence"]:
                if letters_of(self._text[:stop]) >= self._least:
                    glue = " " if self._text[stop] == " " else ""
                    yield from self._cut(stop, "sentence", glue)
                    ended = True
                    break

    def _cut(self, stop: int, pause: Pause, glue: str) -> Iterator[Segment]:
        text, self._text = self._text[:stop], self._text[stop:].lstrip(" ")
        self._letters = letters_of(self._text)
        yield from self._give(text, pause, glue)

    def _give(self, text: str, pause: Pause, glue: str) -> Iterator[Segment]:
        if self._owed is not None:
            yield Segment("", self._owed, "")
            self._owed = None
        segment = Segment(text, pause, glue)
        self._spoke = self._spoke or segment.speakable
        yield from within_bytes(segment, self._limit)
