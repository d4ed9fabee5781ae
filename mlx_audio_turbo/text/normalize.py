"""Clean-up of punctuation before the tokenizer."""

from __future__ import annotations

from ..errors import TextError

_PLAIN_MARKS = str.maketrans(
    {
        "…": ", ",
        ":": ",",
        "—": "-",
        "–": "-",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
    }
)
_CLOSING_MARKS = (".", "!", "?", "-", ",")


def normalize_text(text: str) -> str:
    """Clean up punctuation as the reference does, which is what the model was trained on.

    The first letter becomes a capital only where the text begins with it, not after a space or a
    quotation mark.

    Raises:
        TextError: nothing but spaces (the reference says a stock sentence instead, or a full stop).
    """
    if not text.strip():
        raise TextError("the text is empty; give at least one word to say")
    if text[0].islower():
        text = text[0].upper() + text[1:]
    text = " ".join(text.split()).translate(_PLAIN_MARKS).replace(" ,", ",").rstrip(" ")
    return text if text.endswith(_CLOSING_MARKS) else text + "."
