"""The rules of the house: who may import whom, and what the library never touches."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "mlx_audio_turbo"
CONVERTER = ROOT / "convert"
STAGES = ("t3", "s3gen", "hift", "encoders")
VALUES = {"config", "presets", "errors", "options", "voice", "speech"}
KERNELS = {"ops", "audio", "files"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "presets": {"config"},
    "options": {"config", "errors"},
    "files": {"errors"},
    "ops": {"config", "errors", "files", "options"},
    "audio": {"config", "errors", "files", "ops", "options"},
    "voice": {"config", "errors", "files"},
    "speech": {"audio", "config", "errors", "files", "plotting"},
    "plotting": {"audio", "config", "errors", "files"},
    "voice_library": {"errors", "files", "voice"},
    "text": {"config", "errors", "options"},
    **{stage: VALUES | KERNELS for stage in STAGES},
    "loading": {*STAGES, "text"} | VALUES | KERNELS,
    "synthesis": {*STAGES, "loading", "text"} | VALUES | KERNELS,
    "models": {"synthesis", "loading", "text", *STAGES} | VALUES | KERNELS,
    "server": {"models", "voice_library"} | VALUES | {"audio"},
}
"""The rooms that each room may import. ``cli``, ``benchmark`` and ``doctor`` may import all."""
WITHOUT_MLX = ("errors", "config", "presets", "options", "files")
COMMANDS = ("tts.py",)
"""Modules that may print, as all of ``cli/`` may."""


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports(path: Path, package: str, root: Path) -> Iterator[str]:
    """Absolute dotted names of all that a module imports, inside functions too."""
    here = [package, *path.relative_to(root).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: -node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            # A literal, or the head of an f-string; a relative name is one of this package.
            head = node.args[0]
            parts = head.values if isinstance(head, ast.JoinedStr) else [head]
            first = parts[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value if not first.value.startswith(".") else f"{package}{first.value}"


def room(path: Path) -> str:
    """The folder or module of the package's top level that a file belongs to."""
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(LIBRARY), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_library_imports(path: Path) -> None:
    names = set(imports(path, "mlx_audio_turbo", LIBRARY))
    tops = {name.split(".")[0] for name in names}
    place = room(path)
    forbidden = {"torch", "torchaudio", "transformers", "pickle"}
    assert not tops & forbidden
    if place != "cli":
        assert "tqdm" not in tops
    if path.relative_to(LIBRARY).as_posix() not in ("loading/catalog.py", "benchmark/__main__.py"):
        assert "mlx_audio_turbo_convert" not in tops, (
            "the catalog is the only door to the converter"
        )
    if place != "loading":
        assert not tops & {"huggingface_hub", "requests", "urllib", "http", "socket"}
    inside = {name.split(".")[1] for name in names if name.startswith("mlx_audio_turbo.")}
    if place in MAY_IMPORT:
        assert inside - {"", place} <= MAY_IMPORT[place]
    if place in WITHOUT_MLX:
        assert "mlx" not in tops


def test_no_circle_of_imports() -> None:
    """Modules of both packages, imports inside functions and by name included."""
    graph: dict[str, set[str]] = {}
    for folder, package in ((LIBRARY, "mlx_audio_turbo"), (CONVERTER, "mlx_audio_turbo_convert")):
        for path in modules(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts]).removesuffix(".__init__")
            graph[name] = set(imports(path, package, folder)) - {name, package}
    known = {name: {each for each in uses if each in graph} for name, uses in graph.items()}
    while leaves := [name for name, uses in known.items() if not uses]:
        for leaf in leaves:
            del known[leaf]
        for uses in known.values():
            uses.difference_update(leaves)
    assert not known, f"in a circle or above one: {sorted(known)}"


def test_the_house_stays_small() -> None:
    """At most 14 modules at the top level, no file over 350 lines."""
    assert len(list(LIBRARY.glob("*.py"))) <= 14
    long = [path for path in (*modules(LIBRARY), *modules(CONVERTER)) if _lines(path) > 350]
    assert not long


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


@pytest.mark.parametrize("path", modules(CONVERTER), ids=lambda p: str(p.relative_to(CONVERTER)))
def test_converter_imports(path: Path) -> None:
    names = set(imports(path, "mlx_audio_turbo_convert", CONVERTER))
    tops = {name.split(".")[0] for name in names}
    assert not tops & {"torch", "transformers"}
    # conds.pt is a pickle: that one file reads it, by an allow-list of opcodes and names
    assert "pickle" not in tops or path.name == "torch_pickle.py"
    inside = {name.split(".")[1] for name in names if name.startswith("mlx_audio_turbo.")}
    assert not inside & {"tts"}
    assert not {name.split(".")[0] for name in names} & {"huggingface_hub"} or path.name in (
        "publish.py",
    )


@pytest.mark.parametrize("path", modules(LIBRARY), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_library_is_silent(path: Path) -> None:
    if path.relative_to(LIBRARY).parts[0] in (*COMMANDS, "cli") or path.name == "__main__.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call not in ("print", "mx.random.seed", "np.random.seed", "random.seed")
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, "a blanket except"
            assert ast.unparse(node.type) != "Exception", "a blanket except"


@pytest.mark.parametrize("stage", STAGES)
def test_networks_do_not_evaluate(stage: str) -> None:
    for path in modules(LIBRARY / stage):
        if path.name in (
            "decoder.py",
            "reference_clip.py",
            "prefix_cache.py",
        ):  # loops over networks
            continue
        assert "mx.eval(" not in path.read_text(encoding="utf-8"), path


def test_importing_the_package_loads_no_heavy_library() -> None:
    """Importing the package loads neither librosa nor a half of the ecosystem."""
    code = (
        "import sys, mlx_audio_turbo\n"
        "heavy = {'librosa', 'numba', 'scipy', 'torch', 'transformers', 'huggingface_hub',"
        " 'pyloudnorm', 'mlx_audio_turbo_convert'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_renames_outside_the_converter() -> None:
    """No transposing or renaming of weights where they are loaded."""
    text = (LIBRARY / "loading" / "folder.py").read_text(encoding="utf-8")
    assert not re.search(r"transpose|\.T\b|swapaxes|sanitize|replace\(", text)
