"""Texts to clean and tokenize on both sides, generated from a seed. Needs neither torch nor MLX."""

from __future__ import annotations

import json
import random

import numpy as np

# ruff: noqa: SIM905

SENTENCE = "I left my keys on the kitchen table this morning."
"""What the trained checkpoint says."""
_WORDS = (
    "the quick brown fox jumps over a lazy dog hello World don't I'll they're it's NASA e.g. naïve "
    "café résumé 3.14 2026 1,000 $5 100% v1.0 user@example.com https://x.org/a?b=c C++ _under_ "
    "wait really hmm uh-huh ok ﬁre straße ß ŉ ǆ"
).split()
_TAGS = (
    "[angry]|[fear]|[surprised]|[whispering]|[advertisement]|[dramatic]|[narration]|[crying]|"
    "[happy]|[sarcastic]|[clear throat]|[sigh]|[shush]|[cough]|[groan]|[sniff]|[gasp]|[chuckle]|"
    "[laugh]|[LAUGH]|[ laugh ]|[laugh|laugh]|[unknown]|[]"
).split("|")
_SCRIPTS = (
    "Привет мир Ελληνικά שלום مرحبا नमस्ते สวัสดี 你好世界 こんにちは 안녕하세요 Việt ქართული "
    "አማርኛ İstanbul e\u0301 ﷽ 𝒳 ½ ²"
).split()
_EMOJI = "😀 👩‍👩‍👧 🇩🇪 ❤️ 👍🏽 ☃ 🏴󠁧󠁢󠁥󠁮󠁧󠁿".split()
_MARKS = "… — – ‘ ’ “ ” : ; , . ! ? - ... ?! « » ' \" ( ) ` „ ‚ 、 。 ' , - : …".split()
_SPACES = [*"    ", "", "  ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2009", "\u200b"]
_CONTROLS = list("\x00\x01\x07\x1b\x1c\x1f\x7f\x85\u2028\ufeff\u202e")
_KINDS = [*[_WORDS] * 6, [*_TAGS, "<|endoftext|>"], _SCRIPTS, _EMOJI, _MARKS, _MARKS, _CONTROLS]


def generate_texts(count: int, *, seed: int = 0) -> list[str]:
    """``count`` texts of words, tags, other scripts, emoji, marks and control characters.

    None is empty or of spaces only: there ours differs from the reference on purpose.
    """
    rng = random.Random(seed)
    texts: list[str] = []
    while len(texts) < count:
        text = rng.choice(["", "", "", " ", "“", "'"])
        for _ in range(rng.randint(1, 40)):
            text += rng.choice(rng.choice(_KINDS)) + rng.choice(_SPACES)
        if rng.random() < 0.1:
            text += "".join(chr(rng.randrange(0x20, 0xD800)) for _ in range(20))
        if text.split():
            texts.append(text)
    return texts


def pack_json(value: object) -> np.ndarray:
    """Anything that JSON holds as bytes (n,), to lie among arrays without losing a NUL."""
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


def unpack_json(array: np.ndarray) -> list:
    """The inverse of :func:`pack_json`."""
    return json.loads(array.tobytes())
