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


@pytest.mark.parametrize("path", modules(LIBRARY), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_library_imports(path: Path) -> None:
    names = set(imports(path, "mlx_audio_turbo", LIBRARY))
    tops = {name.split(".")[0] for name in names}
    place = path.relative_to(LIBRARY).parts[0]
    assert not tops & {"torch", "torchaudio", "transformers", "pickle", "mlx_lm", "perth"}
    if place != "cli":
        assert "tqdm" not in tops
    assert "mlx_audio_turbo_convert" not in tops
    if place != "loading":
        assert not tops & {"huggingface_hub", "requests", "urllib", "http", "socket"}
    inside = {name.split(".")[1] for name in names if name.startswith("mlx_audio_turbo.")}
    if place in STAGES:
        assert not inside & ({*STAGES, "models", "loading", "synthesis", "text"} - {place})
    if place == "audio":
        assert inside <= {"audio", "errors", "config", "files", "speech"}
    if place in ("config.py", "errors.py"):
        assert "mlx" not in tops


@pytest.mark.parametrize("path", modules(CONVERTER), ids=lambda p: str(p.relative_to(CONVERTER)))
def test_converter_imports(path: Path) -> None:
    names = set(imports(path, "mlx_audio_turbo_convert", CONVERTER))
    assert not {name.split(".")[0] for name in names} & {"torch", "transformers", "pickle"}
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
