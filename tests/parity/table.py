"""The parity table, for the terminal and for docs/parity.md."""

from __future__ import annotations

from pathlib import Path

from .rows import Row

BEGIN, END = "<!-- parity table: made by `make parity` -->", "<!-- end of parity table -->"


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


def write_docs(path: Path, rows: list[Row]) -> None:
    """Put the table between the two marks of the document."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n{markdown(rows)}\n{END}{after}", encoding="utf-8")
