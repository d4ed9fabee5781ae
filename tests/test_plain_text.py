"""Files of other programs in place of a text are named, with what to do; plain text is not."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from mlx_audio_turbo.errors import TextError
from mlx_audio_turbo.text.plain_text import decode

BOM = b"\xef\xbb\xbf"


def archive(*names: str) -> bytes:
    """The same bytes at any time: processes that share the tests must find the same names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), "x")
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("a.txt"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (rb"{\rtf1\ansi Hello}", "RTF"),
        (BOM + b"\n {\\rtf1 Hello}", "RTF"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "PDF"),
        (b"%!PS-Adobe-3.0", "PostScript"),
        (b"<!DOCTYPE html><p>Hello", "HTML"),
        (b"<!-- saved -->\r\n<HTML lang=en>", "HTML"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "">', "HTML"),
        (b'<div class="page">Hello</div>', "HTML"),
        (b"<p>Hello</p>", "HTML"),
        (BOM + b'<?xml version="1.0"?><FictionBook/>', "XML"),
        (b'<svg xmlns="x">', "XML"),
        (b"From: a@b.c\r\nMIME-Version: 1.0\r\n\r\nHello", "an e-mail"),
        (b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello", "subtitles"),
        (BOM + b"12\r\n00:00:01,000 --> 00:00:02,000\r\nHello", "subtitles"),
        (b"% a letter\n\\documentclass{letter}", "LaTeX"),
        (b'{"text": "Hello"}', "JSON"),
        (b'[{"text": "Hello"}]', "JSON"),
        (archive("word/document.xml"), "a Word document"),
        (archive("mimetype", "META-INF/container.xml"), "an EPUB book"),
        (archive("content.xml"), "an OpenDocument text"),
        (archive("letter.txt"), r"an archive \(zip\)"),
        (archive("letter.txt")[:40], r"an archive \(zip\)"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old version"),
        (gzip.compress(b"Hello there.", mtime=0), r"a compressed file \(gzip\)"),
        (tar(), "UTF-16 or binary data"),
        ("Hello.".encode("utf-16"), "UTF-16 text"),
        ("Hello.".encode("utf-16-le"), "UTF-16 or binary data"),
        ("Привет, мир.".encode("utf-16-le"), "UTF-16 or binary data"),
        ("Привет, мир.".encode("utf-16-be"), "UTF-16 or binary data"),
        (b"\x7fELF\x02\x01\x01\0\0", "UTF-16 or binary data"),
        (b"Hello there. " * 2000 + b"\0" * 9, "UTF-16 or binary data"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio or video"),
        (b"\xff\xfb\x90\x00" + b"\x12" * 90, r"audio \(MP3\)"),
        (b"\0\0\0\x20ftypM4A \0", r"audio or video \(MP4\)"),
        (b"\x89PNG\r\n\x1a\n\0", r"an image \(PNG\)"),
    ],
)
def test_a_file_of_another_program_is_named(content: bytes, kind: str) -> None:
    with pytest.raises(TextError, match=rf"^letter is {kind}.*, not plain text; \w+") as caught:
        decode(content, "letter")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "mac-roman", "cp1251", "shift-jis"])
def test_other_encodings_are_told_where_they_differ(encoding: str) -> None:
    text = "Привет" if encoding == "cp1251" else "日本" if encoding == "shift-jis" else "café"
    with pytest.raises(TextError, match=r"not UTF-8 text \(at byte \d\); save it as UTF-8"):
        decode(text.encode(encoding), "letter")


@pytest.mark.parametrize(
    "text",
    [
        *("", "Hello.", "“Hello”", "PK is my name.", "BZh is nothing.", "ID3 tags are nice."),
        *("RIFF raff.", "GIF89a is a format.", "Rar! he cried.", "%PDF is a format.", "<3 you."),
        *("{curly} start", "{\\it} is TeX.", "[laugh] Hello.", "[1] A note.", '"{}"', "1\n2\n3"),
        *("From: me\nTo: you\n\nA letter.", "<pause> Hello.", "<b> is bold in HTML.", "WEBVTTs"),
        *("Page one.\n\fPage two.\x1e\x1fEnd.", "a\u2028b\u0085c", "今天天气很好。", "👩‍👧"),
        *("---\ntitle: Hello\n---\n# Hello\n\n<p>in Markdown</p>", "{'a': 1}"),
    ],
)
def test_plain_text_is_left_alone(text: str) -> None:
    assert decode(text.encode(), "letter") == text
    assert decode(BOM + text.encode(), "letter") == text
