"""What is to be said: from the command line, a file or standard input."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import OptionError, TextError

TAGS = (
    *("[laugh]", "[chuckle]", "[sigh]", "[gasp]", "[cough]", "[clear throat]", "[sniff]"),
    *("[groan]", "[shush]", "[whispering]", "[happy]", "[angry]", "[fear]", "[surprised]"),
    *("[crying]", "[sarcastic]", "[dramatic]", "[narration]", "[advertisement]"),
)
"""What the published models perform; of another model, ``ChatterboxTurbo.tags`` tells."""


def line_by_line(args: argparse.Namespace) -> bool:
    """Whether each line of standard input is spoken as it comes."""
    return bool(args.stream) and "-" in (args.words, args.file)


def read_text(args: argparse.Namespace) -> str:
    """The whole text.

    Raises:
        OptionError: not exactly one of TEXT, ``--text`` and ``--file``.
        TextError: a file that cannot be read, or is no text.
    """
    _check_one(args)
    if "-" in (args.words, args.file):
        return _decode(sys.stdin.buffer.read(), "standard input")
    if args.file is None:
        return args.words if args.text is None else args.text
    path = Path(args.file).expanduser()
    if path.is_dir():
        raise TextError(f"{path} is a folder; give a text file")
    try:
        return _decode(path.read_bytes(), str(path))
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
        return _decode(self.content, "it").strip()


def read_lines(args: argparse.Namespace) -> Iterator[Line]:
    """Each line that is not empty, as soon as it is there."""
    _check_one(args)
    for number, content in enumerate(sys.stdin.buffer, 1):
        if content.decode("utf-8", "replace").strip():
            yield Line(number, content)


def _check_one(args: argparse.Namespace) -> None:
    given = [each for each in (args.words, args.text, args.file) if each is not None]
    if len(given) != 1:
        what = "nothing to say" if not given else "more than one text"
        raise OptionError(f"{what}; give one of TEXT, --text, --file, and - for standard input")


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{name} is not UTF-8 text (at byte {error.start}); save it as UTF-8"
        ) from None
