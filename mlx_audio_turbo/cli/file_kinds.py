"""Files of other programs that are given in place of a text, told by their content."""

from __future__ import annotations

import io
import re
import zipfile

_MARKS = (
    (b"\xd0\xcf\x11\xe0", "a document of an old version of Word or Office"),
    (b"\x1f\x8b", "a compressed file"),
    (b"BZh", "a compressed file"),
    (b"\xfd7zXZ", "a compressed file"),
    (b"7z\xbc\xaf", "an archive"),
    (b"Rar!", "an archive"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"RIFF", "audio or video"),
    (b"ID3", "audio"),
    (b"fLaC", "audio"),
    (b"OggS", "audio"),
    (b"bplist00", "a property list"),
    (b"SQLite format 3", "a database"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
"""How a file begins; one that begins with letters has zero bytes too, which no text has."""
_PATTERNS = (
    (re.compile(rb"(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S), "HTML"),
    (re.compile(rb"<\?xml\b[^>]*>\s*(<!--.*?-->\s*)*<(!doctype\s+)?html\b", re.I | re.S), "HTML"),
    (re.compile(rb"<\?xml\b", re.I), "XML"),
    (re.compile(rb"MIME-Version:|.{0,2000}^MIME-Version: 1\.0\r?$", re.M | re.S), "an e-mail"),
    (re.compile(rb"\{\\rtf"), "RTF"),
    (re.compile(rb"%PDF-"), "PDF"),
    (re.compile(rb"%!PS"), "PostScript"),
    (re.compile(rb"WEBVTT\s"), "subtitles"),
    (re.compile(rb"1\r?\n\d\d:\d\d:\d\d[,.]\d{3} --> "), "subtitles"),
    (re.compile(rb"(%.*\n\s*)*\\documentclass\b"), "LaTeX"),
)
_ARCHIVES = (
    ("word/", "a Word document (docx)"),
    ("xl/", "an Excel sheet (xlsx)"),
    ("ppt/", "a PowerPoint file (pptx)"),
    ("META-INF/container.xml", "an EPUB book"),
    ("Index/Document.iwa", "a Pages document"),
    ("content.xml", "an OpenDocument text (odt)"),
)
_HEAD = 4_000


def kind_of(content: bytes) -> str | None:
    """What ``content`` is where it is the file of another program, and None for plain text."""
    if content.startswith(b"PK\x03\x04"):
        return _archive(content)
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    for mark, kind in _MARKS:
        if head.startswith(mark) and (not mark.isascii() or b"\0" in head):
            return kind
    if head.count(0) > len(head) / 4:
        return "UTF-16 or binary data"
    return next((kind for pattern, kind in _PATTERNS if pattern.match(head)), None)


def _archive(content: bytes) -> str:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "an archive (zip)"
    for start, kind in _ARCHIVES:
        if any(name.startswith(start) for name in names):
            return kind
    return "an archive (zip)"
