"""Japanese: kanji become hiragana, since the vocabulary has no kanji."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

from .library import Step, import_library

_PARTICLES = ("は", "へ")
"""A reading that begins so gets a space before it, lest it be read as a particle."""


def load(folder: Path) -> Step:
    """The step of Japanese.

    Raises:
        ExtraError: pykakasi is not installed.
    """
    del folder  # the library has its own tables
    kakasi = import_library("pykakasi", package="pykakasi", language="Japanese").kakasi()

    def step(text: str) -> str:
        parts = (_reading(part["orig"], part["hira"]) for part in kakasi.convert(text))
        return normalize("NFKD", "".join(parts))

    return step


def _reading(written: str, hiragana: str) -> str:
    """A part of the text as it is read; kana and everything without kanji stay."""
    if not any("\u4e00" <= character <= "\u9fff" for character in written):
        return written
    return f" {hiragana}" if hiragana.startswith(_PARTICLES) else hiragana
