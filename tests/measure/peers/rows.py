"""Figures with their bounds, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure with its ``bound``, and an ``aim`` beyond it.

    reached: None where it could not be measured.
    upward: more is better.
    """

    what: str
    unit: str
    bound: float
    aim: float | None
    reached: float | None
    upward: bool

    @property
    def passed(self) -> bool:
        """Whether the bound is met."""
        if self.reached is None:
            return False
        return self.reached >= self.bound if self.upward else self.reached <= self.bound

    def cells(self) -> tuple[str, str, str, str, str]:
        """What, bound, aim, reached and mark, ready to print."""
        sign = "≥" if self.upward else "≤"

        def number(value: float | None) -> str:
            if value is None:
                return ""
            return f"{value:.0%}" if self.unit == "%" else f"{value:.3g} {self.unit}".rstrip()

        mark = "missing" if self.reached is None else "ok" if self.passed else "MISSED"
        if self.passed and self.aim is not None and self.reached is not None:
            beyond = self.reached >= self.aim if self.upward else self.reached <= self.aim
            mark = "aim" if beyond else mark
        aim = "" if self.aim is None else f"{sign} {number(self.aim)}"
        return self.what, f"{sign} {number(self.bound)}", aim, number(self.reached), mark


def table(rows: Sequence[Row]) -> str:
    """Fixed width, for the terminal."""
    lines = [f"{'figure':42} {'at least':>9} {'aim':>9} {'reached':>9} {'':>7}"]
    for row in rows:
        what, bound, aim, reached, mark = row.cells()
        lines.append(f"{what:42.42} {bound:>9} {aim:>9} {reached:>9} {mark:>7}")
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
