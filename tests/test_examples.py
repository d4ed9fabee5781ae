"""The examples run, with the tiny model and in a folder of their own."""

from __future__ import annotations

import ast
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import soundfile

from .conftest import CLIP
from .test_playing import Card, put_in

FOLDER = Path(__file__).parents[1] / "examples"
WRITES = {
    "quick_start.py": ["quick_start.wav"],
    "voice_reuse.py": ["anna.safetensors", "voices/anna.safetensors"]
    + [f"sentence-{n}.wav" for n in range(3)],
    "stream_to_sound_card.py": [],
    "long_text.py": ["chapter.wav"],
    "many_requests.py": [],
}
SEVERAL_MACHINES = {"ray_library.py", "ray_serve.py"}
"""Those that tests/test_ray.py runs."""
MORE = {"stream_to_sound_card.py": ["--dry-run"]}


def test_each_is_listed() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(WRITES) | SEVERAL_MACHINES


@pytest.mark.parametrize("name", WRITES)
def test_an_example(
    name: str,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = FOLDER / name
    assert len(path.read_text("utf-8").splitlines()) <= 40
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, str(CLIP), "tiny", *MORE.get(name, [])])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    for written in WRITES[name]:
        assert (tmp_path / written).stat().st_size > 1_000
        if written.endswith(".wav"):
            assert soundfile.info(tmp_path / written).samplerate == 24_000


def test_to_a_sound_card(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = put_in(monkeypatch, Card())
    path = FOLDER / "stream_to_sound_card.py"
    monkeypatch.setattr(sys, "argv", [path.name, str(CLIP), "tiny"])
    runpy.run_path(str(path), run_name="__main__")
    assert card.calls == ["start", "stop"]
    assert len(card.sound()) > 1_000
    assert not card.played[-1].any()


def test_the_notebook(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells as a notebook runs them: the last expression is what is shown."""
    pytest.importorskip("matplotlib")
    notebook = json.loads((FOLDER / "notebook.ipynb").read_text("utf-8"))
    assert notebook["nbformat"] == 4
    (tmp_path / "examples").mkdir()
    shutil.copytree(CLIP.parent, tmp_path / "tests" / "data")
    monkeypatch.chdir(tmp_path / "examples")
    names: dict[str, object] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert cell["outputs"] == []
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop()
        assert isinstance(last, ast.Expr)
        exec(compile(tree, "cell", "exec"), names)
        shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    assert shown[1]._repr_html_().startswith("<audio")
    assert len(shown[2].axes) == 4
    assert len(shown[3].axes) == 8
    assert shown[4].exists()
