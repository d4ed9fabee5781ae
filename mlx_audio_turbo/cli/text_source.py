"""The text to speak: from the command line, a file or standard input."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import OptionError, TextError
from ..files.paths import user_path
from ..text.plain_text import decode


def line_by_line(args: argparse.Namespace) -> bool:
    """Whether each line of standard input is spoken as it comes."""
    return bool(args.stream) and "-" in (args.words, args.file)


def read_text(args: argparse.Namespace) -> str:
    """The whole text.

    Raises:
        OptionError: not exactly one of TEXT, ``--text`` and ``--file``.
        TextError: a file that cannot be read, or is no text.
    """
    check_one(args)
    if "-" in (args.words, args.file):
        return decode(sys.stdin.buffer.read(), "standard input")
    if args.file is None:
        return _from_command_line(args.words if args.text is None else args.text)
    path = user_path(args.file)
    try:
        if path.is_dir():
            raise TextError(f"{path} is a folder; give a text file")
        return decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise TextError(f"no text file at {path}; check the path") from None
    except OSError as error:
        raise TextError(f"{path} cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class Line:
    """A line of standard input that holds more than spaces; ``number`` counts all, from 1."""

    number: int
    content: bytes

    @property
    def text(self) -> str:
        """What it says.

        Raises:
            TextError: it is no text.
        """
        return decode(self.content, "it").strip()


def read_lines(args: argparse.Namespace) -> Iterator[Line]:
    """Each line that is not empty, as soon as it is there."""
    check_one(args)
    for number, content in enumerate(sys.stdin.buffer, 1):
        if content.decode("utf-8", "replace").strip():
            yield Line(number, content)


def check_one(args: argparse.Namespace) -> None:
    """Find out whether there is one text, before anything is read.

    Raises:
        OptionError: not exactly one of TEXT, ``--text`` and ``--file``.
    """
    given = [each for each in (args.words, args.text, args.file) if each is not None]
    if len(given) != 1:
        what = "there is no text" if not given else "there is more than one text"
        raise OptionError(f"{what}; give one of TEXT, --text, --file, and - for standard input")


def _from_command_line(text: str) -> str:
    """``text``; where the locale could not decode it, its bytes as UTF-8."""
    if not any("\udc80" <= character <= "\udcff" for character in text):
        return text
    try:
        return os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text
