"""The languages of the multilingual model, and the steps that prepare their text.

A step is a function of text that is loaded when the first text of its language comes. Most
languages need none. Nothing here uses the network.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from ...errors import OptionError
from . import chinese, hebrew, japanese, korean, russian
from .library import Step

__all__ = ["LANGUAGES", "Step", "check_code", "load_step"]

LANGUAGES: Mapping[str, str] = {
    "ar": "Arabic",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "ms": "Malay",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "sv": "Swedish",
    "sw": "Swahili",
    "tr": "Turkish",
    "zh": "Chinese",
}
"""The names of the languages by their codes (ISO 639-1)."""

_ALIASES = {"nb": "no", "nn": "no", "iw": "he", "cmn": "zh", "jp": "ja", "kr": "ko", "gr": "el"}
"""Other codes that are given for a language of the model."""

_STEPS: Mapping[str, Callable[[Path], Step]] = {
    "he": hebrew.load,
    "ja": japanese.load,
    "ko": korean.load,
    "ru": russian.load,
    "zh": chinese.load,
}


def check_code(language: str) -> str:
    """The code of a language, in small letters.

    Raises:
        OptionError: no language of the model has this code.
    """
    if not isinstance(language, str):
        raise OptionError(f"language is {language!r}; give a code such as 'fr'")
    code = language.strip().lower()
    if code in LANGUAGES:
        return code
    near = _near(code)
    hint = f"did you mean {near!r} ({LANGUAGES[near]})? " if near else ""
    raise OptionError(f"unknown language {language!r}; {hint}choose from {', '.join(LANGUAGES)}")


def load_step(code: str, folder: Path) -> Step:
    """What a text of the language goes through, a function of the text.

    Args:
        folder: the model folder, which holds the tables of some languages.

    Raises:
        ExtraError: a library that the language needs is not installed.
        ModelFolderError: a table that the language needs is not in the folder.
    """
    return _STEPS[code](folder) if code in _STEPS else str


def _near(code: str) -> str | None:
    """The code that was probably meant: a region cut off, a name, or a slip of the keys."""
    stem = code.replace("_", "-").split("-")[0]
    if stem in LANGUAGES or stem in _ALIASES:
        return _ALIASES.get(stem, stem)
    names = {name.lower(): each for each, name in LANGUAGES.items()}
    close = difflib.get_close_matches(stem, names, n=1)
    if close:
        return names[close[0]]
    return next(iter(difflib.get_close_matches(stem, LANGUAGES, n=1)), None)
