"""The parity table, for the terminal and for docs/parity.md."""

from __future__ import annotations

from pathlib import Path

from .rows import Row

BEGIN, END = "<!-- parity table: made by `make parity` -->", "<!-- end of parity table -->"
DEMO_MARKS = "<!-- demo: made by `make parity` -->", "<!-- end of demo -->"
SHORT_MARKS = "<!-- fidelity: made by `make parity` -->", "<!-- end of fidelity -->"


def render(rows: list[Row], *, header: bool = True) -> str:
    """Fixed-width lines of at most 80 columns, a row each."""
    lines = [f"{'':4} {'stage':12} {'figure':38} {'reached':>10}  {'bound':>10}"] if header else []
    for row in rows:
        mark = "ok" if row.passed else "MISS"
        sign = ">=" if row.at_least else "<="
        lines.append(
            f"{mark:4} {row.stage:12} {row.what:38.38} {row.figure:10.3g}  {sign}{row.bound:8.3g}"
        )
    return "\n".join(lines)


def markdown(rows: list[Row]) -> str:
    """The same as a table of Markdown."""
    lines = ["| stage | figure | reached | bound | |", "|---|---|---|---|---|"]
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        mark = "ok" if row.passed else "**missed**"
        lines.append(
            f"| {row.stage} | {row.what} | {row.figure:.3g} | {sign} {row.bound:.3g} | {mark} |"
        )
    return "\n".join(lines)


SHORT = {
    ("text tokenizer", "of 400 raw and cleaned texts differ"): "texts with other ids, of 400",
    ("S3 tokenizer", "1500 tokens, share equal"): "tokens of six clips that are equal, share",
    ("CAM++", "embedding, trained stand-ins, 6 clips"): "speaker embeddings of six clips",
    ("T3 Turbo", "logits, worst of 200 cached steps"): "T3's logits, worst of 200 steps",
    ("T3 Turbo", "200 greedy tokens, differing"): "speech tokens that differ, of 200",
    ("sampling", "1000x 0.8/1000/0.95/1.2, prob."): "sampling probabilities, largest error",
    ("mel", "two steps, relative"): "mel from the same noise",
    ("waveform", "given the source: SNR, dB"): "samples from mel and source, SNR in dB",
    ("whole", "tokens to waveform, worst quarter, dB"): "samples from tokens, worst SNR in dB",
}
"""The rows that README.md shows, and its words for them."""


def short(rows: list[Row]) -> str:
    """A few of the rows for README.md, and how many there are.

    Raises:
        KeyError: one that is to be shown was not measured.
    """
    measured = {(row.stage, row.what): row for row in rows}
    lines = ["| this package beside PyTorch | reached | bound |", "|---|---|---|"]
    for key, words in SHORT.items():
        row = measured[key]
        sign = "≥" if row.at_least else "≤"
        lines.append(f"| {words} | {row.figure:.3g} | {sign} {row.bound:.3g} |")
    kept = sum(row.passed for row in rows)
    return "\n".join([*lines, "", f"{kept} of {len(rows)} figures are within their bounds."])


def write_docs(path: Path, begin: str, end: str, text: str) -> None:
    """Put the text between the two marks of the page."""
    before, rest = path.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
