"""The file tree of docs/architecture.md, made of the modules' first lines.

Run: ``make docs``, or ``python -m tests.docs_tree``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- files: made by `make docs` -->\n"
END = "<!-- end of files -->"


def tree() -> str:
    """Every module of the library and the converter with its line, a table for each folder."""
    folders = [
        folder
        for package in ("mlx_audio_turbo", "convert")
        for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")})
    ]
    return "\n".join(line for folder in folders for line in _table(folder))


def _table(folder: Path) -> Iterator[str]:
    where = folder.relative_to(ROOT).as_posix()
    lines = {path.name: _first_sentence(path) for path in sorted(folder.glob("*.py"))}
    yield f"**`{where}/`** {lines.pop('__init__.py', '')}".rstrip()
    yield ""
    if lines:
        yield "| | |"
        yield "|---|---|"
        yield from (f"| `{name}` | {line} |" for name, line in lines.items())
        yield ""


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    first = " ".join(text.partition("\n\n")[0].split())
    return first.replace("``", "`").replace(":class:", "").replace("|", "\\|")


def written() -> str:
    """What the page says now."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the page."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{tree()}{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
