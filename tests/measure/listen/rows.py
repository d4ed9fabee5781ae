"""The measured figures of the listening tests, as tables of docs/demo_voice.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "demo_voice.md"
HEADER = "| | reached | at least | aim | |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Row:
    """A figure that must be at most ``bound`` and is to be at most ``aim``."""

    what: str
    figure: float
    bound: float
    aim: float
    unit: str = "%"

    @property
    def passed(self) -> bool:
        return self.figure <= self.bound

    def __str__(self) -> str:
        mark = "**missed**" if not self.passed else "aim" if self.figure <= self.aim else "ok"
        bound, aim = (f"≤ {value:g} {self.unit}".rstrip() for value in (self.bound, self.aim))
        reached = f"{round(self.figure, 2):g} {self.unit}".rstrip()
        return f"| {self.what} | {reached} | {bound} | {aim} | {mark} |"


def write(part: str, rows: Iterable[Row]) -> None:
    """Put the table of a part between its marks on the page."""
    begin, end = f"<!-- {part}: made by `make listen` -->", f"<!-- end of {part} -->"
    before, _, rest = PAGE.read_text("utf-8").partition(begin)
    after = rest.partition(end)[2]
    table = "\n".join([HEADER, *map(str, rows)])
    PAGE.write_text(f"{before}{begin}\n{table}\n{end}{after}", "utf-8")
