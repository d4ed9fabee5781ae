"""The pages: their code runs, their links lead somewhere, and what they quote is there."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mlx_audio_turbo import Voice, tts, vc
from mlx_audio_turbo.cli import voices as voices_command
from mlx_audio_turbo.presets import TAGS
from mlx_audio_turbo.voice_library import VoiceLibrary
from mlx_audio_turbo_convert import __main__ as convert

from . import api_page, docs_tree
from .conftest import CLIP
from .measure import expected

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
MAINS: dict[str, Callable[[Sequence[str]], int]] = {
    "mlx_audio_turbo.tts": tts.main,
    "mlx_audio_turbo.vc": vc.main,
    "mlx_audio_turbo.voices": voices_command.main,
    "mlx_audio_turbo.convert": convert.main,
}
NOT_RUN = re.compile(
    r"(make|pip install|hf|\.|cat|ffmpeg|brew|sudo|eval|source) "  # sets up, downloads, or others
    r"|mlx_audio_turbo\.(benchmark|doctor)\b"  # minutes
    r"|mlx_audio_turbo\.convert (?!synthetic --size tiny)"  # gigabytes; tests/test_convert.py
    r"|.* (--play|--watermark|--detect|--print_completion)\b"  # sound cards, PyTorch, shells
    r"|.*(?<!\\)[|<>&]"  # pipes
)
CLIPS = ("reference.wav", "clip.wav", "anna.m4a")
SENTENCE = "A sentence of a chapter, and then some. "


def blocks(path: Path, language: str) -> Iterator[tuple[int, str]]:
    """Line and content of the page's fenced blocks; a comment ``not run`` before one leaves it."""
    pattern = rf"(<!-- not run:[^>]*-->\n+)?^```{language}\n(.*?)^```$"
    text = path.read_text("utf-8")
    for found in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        if not found[1]:
            yield text.count("\n", 0, found.start(2)) + 1, found[2]


@pytest.fixture
def desk(tiny_folder: Path, voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages speak of, and a voice named anna."""
    import soundfile

    samples, rate = soundfile.read(CLIP)
    for name in CLIPS:
        soundfile.write(tmp_path / name, samples[: 6 * rate], rate, format="WAV")
    VoiceLibrary(tmp_path / "voices").add("anna", voice)
    (tmp_path / "chapter.txt").write_text(SENTENCE * 9, "utf-8")
    shutil.copy(tmp_path / "chapter.txt", tmp_path / "book.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_AUDIO_TURBO_VOICES", str(tmp_path / "voices"))
    return tmp_path


@pytest.mark.parametrize(
    "path", [path for path in PAGES if path != api_page.PAGE], ids=lambda path: path.name
)
def test_python_runs(path: Path, desk: Path, model, voice) -> None:
    """All blocks of a page, one after another, as a reader would type them."""
    names: dict[str, object] = {
        "model": model,
        "voice": voice,
        "tokens": [1, 2, 3],
        "play": lambda audio: None,
    }
    for line, code in blocks(path, "python"):
        code = code.replace("from_pretrained()", 'from_pretrained("tiny")')
        exec(compile("\n" * (line - 1) + code, str(path), "exec"), names)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_commands_run(path: Path, desk: Path) -> None:
    for line, block in blocks(path, "(?:sh|bash|console)"):
        for command in block.replace("\\\n", " ").splitlines():
            if not command.strip() or command.startswith("#") or NOT_RUN.match(command):
                continue
            program, *arguments = shlex.split(command, comments=True)
            assert program in MAINS, f"{path.name}:{line}: {command}"
            if program in ("mlx_audio_turbo.tts", "mlx_audio_turbo.vc") or arguments[0] == "add":
                arguments += [] if "--model" in arguments else ["--model", "tiny"]
            if arguments[0] == "add":
                arguments.append("--replace")
            if program == "mlx_audio_turbo.tts":
                arguments += [] if "--max_tokens" in arguments else ["--max_tokens", "10"]
            assert MAINS[program](arguments) == 0, f"{path.name}:{line}: {command}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if not target.startswith(("http://", "https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_files_named_in_the_docs_exist() -> None:
    for path in (ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"):
        for name in re.findall(r"`((?:[\w.]+/)+[\w.]*)`", path.read_text("utf-8")):
            places = (ROOT / name, ROOT / "mlx_audio_turbo" / name)
            assert any(each.exists() for each in places), (path.name, name)


def test_readme_names_the_tags() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert all(f"`{tag}`" in text for tag in TAGS)


def test_every_file_is_in_the_tree() -> None:
    assert docs_tree.written() == docs_tree.tree(), "run: make docs"


def test_the_api_page_is_that_of_the_docstrings() -> None:
    assert api_page.PAGE.read_text("utf-8") == api_page.page(), "run: make docs"


def test_the_expected_speeds_are_those_of_the_sizes() -> None:
    assert expected.written() == expected.table(), "run: make docs"


def test_the_commit_hook_runs_make_check() -> None:
    assert "entry: make check" in (ROOT / ".pre-commit-config.yaml").read_text("utf-8")


def test_quoted_messages_are_in_the_code() -> None:
    said = set(_messages())
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    quoted = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(quoted) > 50
    for message in quoted:
        assert any(message in each for each in said), message


def _messages() -> Iterator[str]:
    """All strings in the code, ``…`` for what is filled in."""
    for package in ("mlx_audio_turbo", "convert"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value
                elif isinstance(node, ast.JoinedStr):
                    parts = (
                        str(part.value) if isinstance(part, ast.Constant) else "…"
                        for part in node.values
                    )
                    yield "".join(parts)
