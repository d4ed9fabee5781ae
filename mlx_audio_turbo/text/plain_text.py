"""Bytes to text, and files of other programs that are given in place of a text.

They are told by their content, since names are often missing or wrong.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import TextError

_SAVE = "save it as plain text (UTF-8)"
_UNPACK = "unpack it and give the text inside"
_TEXT = "give a text file"
_SPEECH = "give a text file; a recording is a reference clip"


class Kind(NamedTuple):
    """What a file is, in words, and what to do about it."""

    name: str
    remedy: str = _SAVE


_UTF16 = Kind("UTF-16 text", "save it as UTF-8")
_BINARY = Kind("UTF-16 or binary data")

_BEGINNINGS: Sequence[tuple[bytes, Kind]] = (
    (b"\xd0\xcf\x11\xe0", Kind("a document of an old version of Word or Office")),
    (b"\x1f\x8b", Kind("a compressed file (gzip)", _UNPACK)),
    (b"BZh", Kind("a compressed file (bzip2)", _UNPACK)),
    (b"\xfd7zXZ", Kind("a compressed file (xz)", _UNPACK)),
    (b"\x28\xb5\x2f\xfd", Kind("a compressed file (zstd)", _UNPACK)),
    (b"7z\xbc\xaf", Kind("an archive (7z)", _UNPACK)),
    (b"Rar!\x1a", Kind("an archive (rar)", _UNPACK)),
    (b"PK\x05\x06", Kind("an empty archive (zip)", _TEXT)),
    (b"\x89PNG", Kind("an image (PNG)", _TEXT)),
    (b"\xff\xd8\xff", Kind("an image (JPEG)", _TEXT)),
    (b"GIF8", Kind("an image (GIF)", _TEXT)),
    (b"RIFF", Kind("audio or video", _SPEECH)),
    (b"ID3", Kind("audio (MP3)", _SPEECH)),
    (b"fLaC", Kind("audio (FLAC)", _SPEECH)),
    (b"OggS", Kind("audio (Ogg)", _SPEECH)),
    (b"bplist00", Kind("a property list", _TEXT)),
    (b"SQLite format 3", Kind("a database", _TEXT)),
    (b"\xff\xfe", _UTF16),
    (b"\xfe\xff", _UTF16),
    (b"\0\0\xfe\xff", Kind("UTF-32 text", _UTF16.remedy)),
)
"""How a file begins. One that begins with letters has bytes after them that no text has."""
_MP3_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff][\x10-\xef]")
_HTML_ELEMENTS = (
    rb"html|head|body|meta|title|link|script|style|p|div|span|table|article|section|main|header|nav"
    rb"|ul|ol|dl|h[1-6]|br|img|center|font|blockquote"
)
_PATTERNS: Sequence[tuple[re.Pattern[bytes], Kind]] = tuple(
    (re.compile(pattern, re.I | re.S | re.M), kind)
    for pattern, kind in (
        (rb"(<!--.*?-->\s*)*<!doctype\s+html\b", Kind("HTML")),
        (rb"(<!--.*?-->\s*)*<(%b)(\s[^<>]*)?/?>" % _HTML_ELEMENTS, Kind("HTML")),
        (rb"<\?xml\b[^>]*>\s*(<!--.*?-->\s*)*<(!doctype\s+)?html\b", Kind("HTML")),
        (rb"<\?xml\b|<svg\s", Kind("XML")),
        (rb"MIME-Version:|.{0,2000}^MIME-Version: 1\.0\r?$", Kind("an e-mail or a saved web page")),
        (rb"\{\\rtf", Kind("RTF")),
        (rb"%PDF-\d", Kind("PDF")),
        (rb"%!PS", Kind("PostScript")),
        (rb"WEBVTT\s", Kind("subtitles", "save the words alone, without times")),
        (
            rb"\d{1,4}\r?\n\d\d:\d\d:\d\d[,.]\d{3} --> ",
            Kind("subtitles", "save the words alone, without times"),
        ),
        (rb"(%[^\n]*\n\s*)*\\(documentclass|documentstyle)\b", Kind("LaTeX")),
    )
)
_ARCHIVES: Sequence[tuple[str, Kind]] = (
    ("word/", Kind("a Word document (docx)")),
    ("xl/", Kind("an Excel sheet (xlsx)")),
    ("ppt/", Kind("a PowerPoint file (pptx)")),
    ("META-INF/container.xml", Kind("an EPUB book")),
    ("Index/Document.iwa", Kind("a Pages document")),
    ("content.xml", Kind("an OpenDocument text (odt)")),
)
_ZIP = Kind("an archive (zip)", _UNPACK)
_HEAD = 4_000
_CONTROLS = bytes(range(0x01, 0x09)) + bytes(range(0x0E, 0x1B))
"""Control characters that stand in no text; the separators from 0x1C on may."""


def decode(content: bytes, name: str) -> str:
    """The text that the bytes hold, without a byte order mark.

    Args:
        name: where they come from, for messages.

    Raises:
        TextError: the file of another program, or not UTF-8.
    """
    if kind := kind_of(content):
        raise TextError(f"{name} is {kind.name}, not plain text; {kind.remedy}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"{name} is not UTF-8 text (at byte {error.start}); save it as UTF-8"
        ) from None


def kind_of(content: bytes) -> Kind | None:
    """What ``content`` is where it is the file of another program, and None for plain text."""
    if content.startswith(b"PK\x03\x04"):
        return _archive(content)
    head = content[:_HEAD]
    for mark, kind in _BEGINNINGS:
        if head.startswith(mark) and (not mark.isascii() or _is_binary(head)):
            return kind
    if content[4:8] == b"ftyp":
        return Kind("audio or video (MP4)", _SPEECH)
    if _MP3_FRAME.match(head) and _is_binary(head):
        return Kind("audio (MP3)", _SPEECH)
    if b"\0" in content or _is_binary(head):
        return _BINARY
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    found = next((kind for pattern, kind in _PATTERNS if pattern.match(text)), None)
    return found or (Kind("JSON", "give the text alone") if _is_json(content) else None)


def _is_binary(head: bytes) -> bool:
    """Whether there are zero bytes, control characters, or bytes that UTF-8 does not have."""
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return b"\0" in head or 20 * controls > len(head) or b"\xff" in head


def _is_json(content: bytes) -> bool:
    """Whether it is a whole document of objects; a list of words in brackets is text."""
    if not re.match(rb"(\xef\xbb\xbf)?\s*(\{\s*\"|\[\s*\{)", content):
        return False
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _archive(content: bytes) -> Kind:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return _ZIP
    for start, kind in _ARCHIVES:
        if any(name.startswith(start) for name in names):
            return kind
    return _ZIP
