"""Where a paragraph may be split: after sentences, clauses and words.

The rules use punctuation, the word that follows, and lists of abbreviations: full ones for
English, the most frequent ones for the other languages of Latin, Cyrillic and Greek script. Marks
of other scripts end sentences and clauses too, with or without a space after them.
"""

# Not a library: nltk downloads its models, pysbd takes seconds a page, and neither knows our tags.

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate, chain, pairwise
from typing import Literal

Kind = Literal["sentence", "clause", "word", "held"]
"""What ends at a break. A ``held`` break is inside of something that should stay whole."""

_TERMINATORS = ".!?…‼⁇⁈⁉。！？｡।॥؟۔"
_CLAUSE_MARKS = (",", ";", ":", "、", "，", "；", "：", "،", "؛", "·", "—", "–", "--")
_OPENING = "“‘«„‚‹([{「『（【《¿¡"
_CLOSERS = "\"'”’“‘»›)]}」』）】》*_"
_OPENERS = _OPENING + "\"'»*_"
_TRAILING = frozenset(_TERMINATORS + "”’»›)]}」』）】》,;:、，；：،؛%-–—")
"""Marks that belong to the word before them, also after a space (``Bonjour !``, ``a - b``)."""

_TAG = re.compile(r"\[[^\W\d_]{1,15}(?:[ _-][^\W\d_]{1,10}){0,2}\]")
UNSPACED_ENDINGS = tuple("。！？｡」』”’）】》")
"""How sentences end in scripts that put no space after them."""
_UNSPACED = re.compile(
    r"(?P<sentence>[。！？｡]+[」』”’）】》]*)|[、，；：]|(?<=\w)(?:—+|--+|…+)(?=[\w“‘«])"
)
_QUOTE_MARKS = re.compile("[\"'“”‘’„‚«»「」『』]")
_CLOSING_QUOTE = {
    **{'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“", "‚": "‘"},
    **{"«": "»", "「": "」", "『": "』"},
}
_APOSTROPHE = re.compile(r"'(?:\d|(?:tis|twas|twere|em|til|till|cause|bout|round|n)\b)", re.I)
_ABBREVIATED = re.compile(r"[^\W\d_]+(?:\.[^\W\d_]+)*$")
_DOTTED = re.compile(r"[^\W\d_](?:\.[^\W\d_])*")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEVER_LAST = _words(
    """Mr Mrs Ms Mx Dr Prof Gen Col Capt Cpt Lt Maj Sgt Cpl Cmdr Adm Rev Hon Fr Gov Sen Rep Pres
    Supt Insp Messrs Mme Mlle Mt Ft vs v e.g i.e cf viz approx ca al
    Hr Fru Frl Hrn Herrn bzw evtl ggf bspw sog inkl vgl Sra Srta Dra Ud Uds Exmo Exma MM Ste
    Sig Sig.ra Sigg Dott Prof.ssa dhr mevr bijv f.eks bl.a t.ex np tzw św prof dr inż Sn Doç
    ул Ул им проф κ κ.κ π.χ"""
)
_BEFORE_NUMBER = _words(
    """No no Nos nos Fig fig Figs figs p pp Eq eq Sec sec Art art Nr nr Núm núm Abb Abs Bd Kap kap
    pág pag str стр рис гл"""
)
_MAY_BE_LAST = _words(
    """etc St Ave Blvd Rd Inc Ltd Co Corp Bros Jr Sr Esq Ph.D B.Sc M.Sc Vol vol Ch ch Dept dept Est
    est Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri Sat
    Sun usw Mio Mrd Jh Str Tel Okt Dez Av av env enz osv m.m itd itp godz vb млн млрд тыс руб т.д
    т.п др κ.λπ ex"""
)
_MONTHS = _words(
    """Januar Jänner Februar März April Mai Juni Juli August September Oktober November Dezember
    Jahrhundert Jahrhunderts"""
)
_STARTERS = _words(
    """a after all also although an and another any are as at because before both but by can could
    did do does each even every few for from had has have he her here his how however i if in is it
    its just let many maybe meanwhile more most my never no nobody nor not nothing now of on once
    one only or our perhaps several she should since so some soon still such that the their then
    there these they this those though through thus to under until was we well were what when where
    whether which while who why will with would yes yet you your"""
)
"""Words that begin a sentence if they have a capital."""


def find_tags(paragraph: str) -> list[tuple[int, int]]:
    """The spans of the tags, in order; none is longer than 39 characters."""
    return [match.span() for match in _TAG.finditer(paragraph)]


def find_breaks(paragraph: str, limit: int) -> dict[Kind, list[int]]:
    """The positions where ``paragraph`` (white space folded) may be split, by what ends there.

    A position is that of the space between two words, or of the first character after the break.
    No position is inside a tag; those inside a quotation of at most ``limit`` characters are held.
    """
    breaks: dict[Kind, list[int]] = {"sentence": [], "clause": [], "word": [], "held": []}
    found = sorted(chain(_after_words(paragraph), _within_words(paragraph)))
    positions = [position for position, _ in found]
    in_tag = _inside(positions, find_tags(paragraph))
    in_quotation = _inside(positions, sorted(_quotations(paragraph, limit)))
    for (position, kind), tagged, quoted in zip(found, in_tag, in_quotation, strict=True):
        if not tagged:
            breaks["held" if quoted else kind].append(position)
    return breaks


def _inside(positions: list[int], spans: list[tuple[int, int]]) -> Iterator[bool]:
    """For each position in order, whether it lies within one of the spans (sorted by start)."""
    reach, following = 0, 0
    for position in positions:
        while following < len(spans) and spans[following][0] < position:
            reach = max(reach, spans[following][1])
            following += 1
        yield position < reach


def _after_words(paragraph: str) -> Iterator[tuple[int, Kind]]:
    words = paragraph.split(" ")
    ends = accumulate(words, lambda end, word: end + 1 + len(word), initial=-1)
    next(ends)
    first = True
    for (word, following), end in zip(pairwise(words), ends, strict=False):
        kind = _kind(word, following, first)
        first = kind == "sentence"
        yield end, kind


def _within_words(paragraph: str) -> Iterator[tuple[int, Kind]]:
    """Breaks without a space: after full-width marks, and after a dash between two words."""
    for match in _UNSPACED.finditer(paragraph):
        start, end = match.span()
        if end == len(paragraph) or paragraph[end] == " " or paragraph[end] in _TRAILING:
            continue
        if paragraph[start - 1 : start].isdigit() and paragraph[end].isdigit():
            continue
        yield end, "sentence" if match["sentence"] else "clause"


def _kind(word: str, following: str, first: bool) -> Kind:
    """What ends with ``word``.

    Args:
        following: the next word.
        first: whether ``word`` begins its sentence.
    """
    if _belongs_before(following) or not word.strip(_OPENING):
        return "held"
    stem = word.rstrip(_CLOSERS + _TERMINATORS)
    ending = word[len(stem) :]
    marks = ending.strip(_CLOSERS)
    if ending and first and stem.isdigit() and len(stem) <= 3:
        return "held"  # "1." or "2)" numbers what follows
    if not marks:
        return _without_terminator(stem, following, closed=bool(ending))
    begins = following.lstrip(_OPENERS)
    if begins[:1].islower() and following[0] != "[":  # a tag stands between sentences
        return _before_small_letter(stem, ending, marks, begins)
    return "held" if marks == "." and _abbreviates(stem, begins) else "sentence"


def _belongs_before(word: str) -> bool:
    """Whether ``word`` is marks that belong to the word before it, as in ``Bonjour !``."""
    return word[0] in _TRAILING and not word[1:2].isalnum()


def _without_terminator(stem: str, following: str, *, closed: bool) -> Kind:
    """What ends with a word that no mark of a sentence follows, but perhaps a closing quote."""
    if not closed and stem[-1].isdigit() and following[0].isdigit():
        return "held"  # "10 000"
    return "clause" if stem.endswith(_CLAUSE_MARKS) or stem == "-" else "word"


def _before_small_letter(stem: str, ending: str, marks: str, following: str) -> Kind:
    """What ends before a word in small letters: never a sentence.

    After a full stop a small letter shows an abbreviation, listed or not; after other marks
    (``Yahoo! announced``, ``"Why?" he asked``) the sentence goes on.
    """
    if marks != "." or ending[-1] in _CLOSERS or not stem:
        return "clause"
    return "held" if _abbreviates(stem, following) else "clause"


def _abbreviates(stem: str, following: str) -> bool:
    """Whether the full stop after ``stem`` belongs to an abbreviation and ends no sentence."""
    if stem.isdigit() and len(stem) <= 2:  # an ordinal of German, Danish, Finnish, Polish …
        return following[:1].islower() or following.rstrip(",;:.") in _MONTHS
    match = _ABBREVIATED.search(stem[-16:])
    if not match:
        return False
    name = match[0]
    if len(name) > 1 and name.isupper() and "." not in name:
        name = name.capitalize()
    if name in _NEVER_LAST:
        return True
    if name in _BEFORE_NUMBER:
        return following[:1].isdigit()
    if not _DOTTED.fullmatch(name) and name not in _MAY_BE_LAST:
        return False
    return not (following[:1].isupper() and following.rstrip(",;:").lower() in _STARTERS)


def _quotations(paragraph: str, limit: int) -> Iterator[tuple[int, int]]:
    """Spans of the quotations that fit into a segment with the words that touch them."""
    opened: dict[str, int] = {}
    for match in _QUOTE_MARKS.finditer(paragraph):
        mark, start, end = match[0], match.start(), match.end()
        before, after = paragraph[start - 1 : start] or " ", paragraph[end : end + 1] or " "
        closes = mark not in "\"'’" or (before != " " and not after.isalnum())
        if closes and mark in opened:
            opening = opened.pop(mark)
            if mark in "」』":  # no words touch them
                if end - opening <= limit:
                    yield opening, end
                continue
            left = paragraph.rfind(" ", max(0, opening - limit), opening) + 1
            right = paragraph.find(" ", end, end + limit)
            if (right if right >= 0 else min(len(paragraph), end + limit)) - left <= limit:
                yield opening, end
        elif mark in _CLOSING_QUOTE:
            opens = before in _OPENERS + " -–—" and after != " "
            if mark not in "\"'" or (opens and not _APOSTROPHE.match(paragraph, start)):
                opened[_CLOSING_QUOTE[mark]] = start
