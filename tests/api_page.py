"""docs/api.md, made of the public names, their signatures and docstrings.

Run: ``make docs``, or ``python -m tests.api_page``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from griffe import GriffeLoader, Module, Object
from griffe2md import default_config, render_object_docs

from mlx_audio_turbo.options import RUN_OPTIONS
from mlx_audio_turbo.options.definition import definitions

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
GROUPS = (
    ("Models", r"models\."),
    ("Values", r"voice|speech|voice_library|text\.|audio\."),
    ("Options", r"options|synthesis\.watchdog"),
    ("Errors", r"errors"),
    ("Other functions", r""),
)
"""Heading, and the modules whose names stand under it; the first that fits."""
CONFIG = default_config | {
    "heading_level": 3,
    "summary": False,
    "members_order": "alphabetical",
    "show_if_no_docstring": False,
    "show_root_full_path": False,
    "show_object_full_path": False,
    "show_root_members_full_path": False,
    "show_bases": False,
    "show_submodules": False,
    "inherited_members": True,
}


def page() -> str:
    """The whole page."""
    loader = GriffeLoader(search_paths=[ROOT], docstring_parser="google")
    package = loader.load("mlx_audio_turbo")
    assert isinstance(package, Module)
    loader.resolve_aliases()
    parts = [
        "# Python API",
        "<!-- Made by `make docs` from the docstrings; a test compares. -->",
        "Every name is imported from `mlx_audio_turbo`. Arrays are NumPy's, samples are float32 at "
        "24 kHz,\nand errors are raised by the call, also where the result is an iterator.",
    ]
    for heading, names in _grouped(package):
        parts.append(f"## {heading}")
        if heading == "Errors":
            parts.append(_errors(package, names))
        else:
            parts += [_plain(render_object_docs(package[name], CONFIG)) for name in names]
        if heading == "Models":
            parts.append(_run_options())
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _grouped(package: Module) -> Iterator[tuple[str, list[str]]]:
    names = [str(name) for name in package.exports or () if str(name) != "__version__"]
    for heading, modules in GROUPS:
        found = [name for name in names if re.match(modules, _module(package[name]))]
        names = [name for name in names if name not in found]
        if found:
            yield heading, found


def _module(obj: Object) -> str:
    return obj.canonical_path.removeprefix("mlx_audio_turbo.").rpartition(".")[0] + "."


def _errors(package: Module, names: list[str]) -> str:
    rows = []
    for name in names:
        text = package[name].docstring
        first = " ".join((text.value if text else "").partition("\n\n")[0].split())
        rows.append(f"| `{name}` | {_marks(first)} |")
    return "\n".join(["| error | |", "|---|---|", *rows])


def _run_options() -> str:
    """Every keyword option, with the models that take it."""
    rows: dict[str, str] = {}
    for owner in RUN_OPTIONS.values():
        for name, each in definitions(owner).items():
            takers = ", ".join(f"`{m}`" for m, o in RUN_OPTIONS.items() if name in definitions(o))
            default = "" if each.default is None else f"`{each.default}`"
            if each.kind not in (int, float, str, bool):
                default = "" if each.default is None else f"`{each.kind.__name__}()`"
            cells = (f"`{name}`", each.option.help, default, each.option.range, takers)
            rows[name] = f"| {' | '.join(cells)} |"
    head = ["| option | | default | range | models |", "|---|---|---|---|---|"]
    return "### Keyword options\n\n" + "\n".join([*head, *rows.values()])


def _plain(text: str) -> str:
    """Types as code instead of links into the page, and Markdown's marks in the prose."""

    def code(found: re.Match[str]) -> str:
        inner = re.sub(r"\[([^\]]*)\]\(#[^)]*\)", r"\1", found[1])
        return f"`{inner.strip()}`"

    text = re.sub(r"<code>(.*?)</code>", code, text)
    return re.sub(r"\n{3,}", "\n\n", _marks(text))


def _marks(text: str) -> str:
    """reStructuredText's marks as Markdown's."""
    text = re.sub(r":\w+:`~?(?:\.?\w+\.)*(\w+)`", r"`\1`", text)
    return re.sub(r"``([^`\n]+)``", r"`\1`", text)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
