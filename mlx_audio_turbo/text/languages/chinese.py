"""Chinese: words are separated by spaces, and glyphs are spelled in the Cangjie code.

The vocabulary has no glyphs but the letters of Cangjie 5, an input method: a glyph is the letters
of its code, its index among the glyphs of the same code if that is above 0, and a full stop, each
a token such as ``[cj_a]``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from unicodedata import category

from ...errors import ExtraError, ModelFolderError
from .library import Step, import_library

CANGJIE_FILE = "Cangjie5_TC.json"
"""A list of ``glyph<TAB>code``, as the checkpoint has it."""
_WORD_MODEL = "spacy_ontonotes"


class Cangjie:
    """Glyphs to the tokens of their codes."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Read entries of the form ``glyph<TAB>code``, the last of a glyph counts."""
        self._codes: dict[str, str] = {}
        glyphs: dict[str, list[str]] = {}
        for entry in entries:
            glyph, code = entry.split("\t")[:2]
            self._codes[glyph] = code
            glyphs.setdefault(code, []).append(glyph)
        self._indices: dict[tuple[str, str], int] = {}
        for code, sharing in glyphs.items():
            for index, glyph in enumerate(sharing):
                self._indices.setdefault((code, glyph), index)

    def spell(self, glyph: str) -> str:
        """The tokens of ``glyph``; a letter that has no code stays."""
        code = self._codes.get(glyph)
        if code is None or category(glyph) != "Lo":
            return glyph
        index = self._indices[code, glyph]
        letters = f"{code}{index}" if index else code
        return "".join(f"[cj_{letter}]" for letter in letters) + "[cj_.]"


def load(folder: Path) -> Step:
    """The step of Chinese.

    Raises:
        ModelFolderError: the table of the Cangjie code is not in the folder, or damaged.
        ExtraError: spacy-pkuseg or its model is not installed.
    """
    return step(read_table(folder), load_segmenter())


def step(table: Cangjie, cut: Callable[[str], list[str]]) -> Step:
    """The step for a table and a function that cuts a text into words."""
    return lambda text: "".join(map(table.spell, " ".join(cut(text))))


def read_table(folder: Path) -> Cangjie:
    """The table of the Cangjie code.

    Raises:
        ModelFolderError: it is not in the folder, or damaged.
    """
    path = folder / CANGJIE_FILE
    try:
        return Cangjie(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise ModelFolderError(
            f"Chinese needs {path}, which is missing; convert the model again"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError):
        raise ModelFolderError(f"{path} is damaged; convert the model again") from None


def load_segmenter() -> Callable[[str], list[str]]:
    """The word segmenter that the model was trained with.

    Raises:
        ExtraError: spacy-pkuseg or its model is not installed.
    """
    library = import_library("spacy_pkuseg", package="spacy-pkuseg", language="Chinese")
    home = os.environ.get("PKUSEG_HOME") or os.path.join("~", ".pkuseg")
    model = Path(os.path.expanduser(home)) / _WORD_MODEL
    # Given the name of a model, the library would download it; given its folder, it only reads.
    if not all((model / name).is_file() for name in ("weights.npz", "features.msgpack")):
        raise ExtraError(
            f"Chinese needs the word model of spacy-pkuseg in {model}; "
            "fetch it once with: python -c 'import spacy_pkuseg; spacy_pkuseg.pkuseg()'"
        )
    return library.pkuseg(str(model)).cut
