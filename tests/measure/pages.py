"""The parts of the docs that a measurement writes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def write_part(page: Path, name: str, content: str) -> None:
    """Replace what stands between ``<!-- NAME: made by ... -->`` and ``<!-- end of NAME -->``.

    Raises:
        ValueError: the page has no such part.
    """
    text, end = page.read_text("utf-8"), f"<!-- end of {name} -->"
    start = text.index(f"<!-- {name}: made by ")
    start = text.index("\n", start) + 1
    page.write_text(f"{text[:start]}{content}{text[text.index(end, start) :]}", "utf-8")


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return (
        "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
        .replace("| --- ", "|---")
        .replace("--- |", "---|")
    )


def measured_on() -> str:
    """The line that says where figures come from."""
    return (
        f"Measured with mlx {importlib.metadata.version('mlx')} on {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.\n"
    )
