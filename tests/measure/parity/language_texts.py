"""Texts in the languages of the multilingual model, generated from a seed.

Made-up tables stand in for those that are not at hand. Needs neither torch nor MLX.
"""

from __future__ import annotations

import random
from itertools import product

# ruff: noqa: SIM905

_WORDS = {
    "ar": "مرحبًا بالعالم السلام عليكم كيف حالك؟ لا آسف، مدرسةٌ ﻻ ١٢٣ القُرآن أُحِبُّ",
    "da": "Hej Verden på Ærø smørrebrød blåbær Århus Øl æøå én idé to-tre 42 hvad?",
    "de": "Straße Übung größer ẞ Äpfel schön z.B. Öl „Guten Tag“ fährt weiß Ça 3,5 ﬁn",
    "el": "Καλημέρα κόσμε ΟΔΟΣ σοφός ΐ ϋ Ώρα τι; ναι· Ἀθήνα ὁ λόγος 15",
    "en": "Hello world naïve café don’t I'll résumé NASA 1,000 $5 Æon ½ x² uh-huh",
    "es": "¿Qué tal? ¡Hola! niño mañana pingüino Ángel corazón ESPAÑA 2.º él está",
    "fi": "Hyvää päivää yötyö Äiti åbo köyhä mitä? ehkä—joo Šakki 7",
    "fr": "Ça va? À bientôt! Œuvre cœur été où naïf l’été « oui » ÉCOLE hôtel 1er",
    "he": "שָׁלוֹם עוֹלָם מַה שְׁלוֹמְךָ? אֲנִי אוֹהֵב לֶחֶם ״כֵּן״ בַּיִת שׁ",
    "hi": "नमस्ते दुनिया। क़लम ज़रूर हिन्दी मैं ठीक हूँ? ड़ाक १२३ ॐ श्री",
    "it": "Perché città È così l’ora più. Ciao! caffè Università 3° ù",
    "ja": "今日は いい天気ですね。 東京へ行く 母は カタカナ ガギグ パン 一二三 ｱｲｳ 々 「はい」 "
    "ヴァ 日本語ABC 平和、辺り",
    "ko": "안녕하세요 세계 대한민국 값이 뭐? 읽다 ㅋㅋ ㄱ 한글! 가각 힣 서울Seoul",
    "ms": "Selamat pagi dunia Apa khabar? saya makan nasi lemak Kuala Lumpur 10",
    "nl": "Goedemorgen wereld één coördinatie ĳs 's-Gravenhage IJsselmeer café 5",
    "no": "Hei verden på Ålesund sjø ærlig kjøtt én Østfold idé 8",
    "pl": "Zażółć gęślą jaźń Łódź źdźbło ĄĘŚĆ dzień! Ściana ó 12",
    "pt": "Olá coração ação pão à noite Ã você É português avô ü 3ª",
    "ru": "Привет мир ёлка Ёж йод Й съёмка что? объект 25 э́то Москва",
    "sv": "Hej världen å ä ö Ångström sjuksköterska Örebro idé är 6",
    "sw": "Habari dunia Ng'ombe asante sana Karibu! mwana chakula 4",
    "tr": "İstanbul ıspanak IĞDIR çığ şeker Ötüken güneş ÜÇ i̇ 9",
    "zh": "今天天气很好，我们去公园吧。 繁體字 简体 你好 世界！ AI 3 日曰明 㐀 𠀀 女 は ？ “好”",
}
_MARKS = ", . ! ? … : ; — - ... “ ” ‘ ’ ( )".split()
_SPACES = [*"      ", "", "  ", "\u00a0", "\n"]

CODES = tuple(_WORDS)


def generate_language_texts(code: str, count: int = 20, *, seed: int = 0) -> list[str]:
    """``count`` texts of a language: words, tags of sounds, and marks."""
    random_ = random.Random(f"{code} {seed}")
    words = [*_WORDS[code].split(), "[sigh]", "[UH]"]
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(random_.randint(1, 25)):
            parts.append(random_.choice(words))
            if random_.random() < 0.2:
                parts.append(random_.choice(_MARKS))
            parts.append(random_.choice(_SPACES))
        texts.append("".join(parts))
    return texts


def cangjie_entries() -> list[str]:
    """A made-up table in the form of the Cangjie table: codes that several glyphs share, glyphs
    with two codes, and glyphs without."""
    random_ = random.Random(5)
    codes = ["".join(letters) for n in (1, 2) for letters in product("abcdwxyz", repeat=n)]
    glyphs = sorted({g for g in _WORDS["zh"] if g >= "\u3400"} - set("，。！？“”は㐀"))
    entries = [f"{glyph}\t{random_.choice(codes[:12])}" for glyph in glyphs]
    return entries + [f"{glyph}\t{random_.choice(codes)}" for glyph in glyphs[::4]] + entries[:2]


def cut_words(text: str) -> list[str]:
    """Stands in for the word segmenter, whose model is not at hand: parts of up to three glyphs."""
    return [part[i : i + 3] for part in text.split() for i in range(0, len(part), 3)]
