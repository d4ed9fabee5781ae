"""Clean-up of punctuation before the tokenizer, as each reference does it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import TextError

_QUOTES = (("“", '"'), ("”", '"'), ("‘", "'"), ("’", "'"))
_CLOSING = (".", "!", "?", "-", ",")

SOFT_HYPHEN = "\u00ad"
_INVISIBLE = re.compile(
    "\u00ad\\s*\n\\s*|[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)


def drop_invisible(text: str) -> str:
    """``text`` without characters that are neither seen nor spoken, which a tokenizer would spell.

    These are soft hyphens (with the line break after one, where a word was divided), zero-width
    spaces, word joiners, byte order marks, and marks of direction. Joiners, which some scripts
    need within words, stay.
    """
    return text if text.isascii() else _INVISIBLE.sub("", text)


@dataclass(frozen=True)
class CleanUp:
    """The punctuation that a model was trained on.

    replaced: marks and what stands for them, applied in this order.
    closing: a text that ends in none of these gets a full stop.
    """

    replaced: tuple[tuple[str, str], ...]
    closing: tuple[str, ...] = _CLOSING

    def __call__(self, text: str, *, capitalize: bool = True) -> str:
        """``text`` cleaned up.

        Args:
            capitalize: the first letter becomes a capital, but only where the text begins with
                it, not after a space or a quotation mark.

        Raises:
            TextError: nothing but spaces (the references speak a stock sentence or a full stop).
        """
        if not text.strip():
            raise TextError("the text is empty; give at least one word to say")
        if capitalize and text[0].islower():
            text = text[0].upper() + text[1:]
        text = " ".join(text.split())
        for mark, plain in self.replaced:
            text = text.replace(mark, plain)
        text = text.rstrip(" ")
        return text if text.endswith(self.closing) else text + "."


normalize_text = CleanUp(
    replaced=(("…", ", "), (":", ","), ("—", "-"), ("–", "-"), (" ,", ","), *_QUOTES)
)
"""Turbo's."""

normalize_original = CleanUp(
    replaced=(
        *(("...", ", "), ("…", ", "), (":", ","), (" - ", ", "), (";", ", ")),
        *(("—", "-"), ("–", "-"), (" ,", ","), *_QUOTES),
    )
)
"""That of the original model. Dashes between spaces and semicolons become commas."""

normalize_multilingual = CleanUp(
    replaced=normalize_original.replaced, closing=(*_CLOSING, "、", "，", "。", "？", "！")
)
"""That of the multilingual model: marks of Chinese and Japanese end a text too."""
