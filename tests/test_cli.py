"""What is made of the parsers: the documentation and the shells' completion."""

from __future__ import annotations

import argparse
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlx_audio_turbo.benchmark.__main__ import parser as benchmark_parser
from mlx_audio_turbo.cli.completion import SHELLS, script
from mlx_audio_turbo.cli.docs import render
from mlx_audio_turbo.cli.options import tts_parser, vc_parser, voices_parser
from mlx_audio_turbo.cli.server import parser as serve_parser
from mlx_audio_turbo.doctor.__main__ import parser as doctor_parser
from mlx_audio_turbo_convert.__main__ import parser as convert_parser

DOCS = Path(__file__).parents[1] / "docs"


def test_the_documentation_is_that_of_the_parsers() -> None:
    assert (DOCS / "cli.md").read_text("utf-8") == render(), (
        "run: python -m mlx_audio_turbo.cli.docs > docs/cli.md"
    )


def test_every_option_is_documented() -> None:
    page = render()
    for parser in (tts_parser(), vc_parser(), voices_parser()):
        for action in parser._actions:
            for name in action.option_strings:
                assert name in page or name in ("-h", "--help")


def every_parser() -> list[argparse.ArgumentParser]:
    """Those of the commands, and of theirs."""
    found = [tts_parser(), vc_parser(), voices_parser(), convert_parser()]
    found += [serve_parser(), benchmark_parser(), doctor_parser()]
    for parser in found:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found.extend(action.choices.values())
    return found


@pytest.mark.parametrize("parser", every_parser(), ids=lambda p: p.prog)
def test_help_fits_a_terminal(parser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = parser.format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert "``" not in text
    assert parser.description
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), action


def test_text_without_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (["Good", "morning."], "put it in quotes"),
        (["Good", "--bogus"], "unrecognized arguments: --bogus"),
    ):
        with pytest.raises(SystemExit) as caught:
            tts_parser().parse_args(words)
        assert caught.value.code == 2
        err = capsys.readouterr().err
        assert said in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_scripts_parse(shell: str) -> None:
    text = script("mlx_audio_turbo.tts", shell)
    assert "mlx_audio_turbo.tts" in text
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=text, text=True, check=True)


def complete(line: str) -> list[str]:
    """What the command of ``line`` answers a shell that asks."""
    asked = {
        **{"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\v", "COMP_LINE": line},
        **{"COMP_POINT": str(len(line)), "_ARGCOMPLETE_COMP_WORDBREAKS": " \t\n=<>;|&(:"},
    }
    code = f"exec {sys.executable} -m {line.split()[0]} 8>&1 9>&2 1>/dev/null"
    done = subprocess.run(
        ["sh", "-c", code], capture_output=True, text=True, env=os.environ | asked
    )
    assert done.stderr == ""
    return sorted(word.strip() for word in done.stdout.split("\v") if word)


@pytest.fixture
def shell_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two voices, and the commands where shells find them."""
    voices, programs = tmp_path / "voices", tmp_path / "programs"
    voices.mkdir()
    programs.mkdir()
    for name in ("anna", "bob.2", "no name", "$(exit)"):
        (voices / f"{name}.safetensors").touch()
    for command in ("tts", "voices"):
        program = programs / f"mlx_audio_turbo.{command}"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {program.name} "$@"\n')
        program.chmod(0o755)
    monkeypatch.setenv("MLX_AUDIO_TURBO_VOICES", str(voices))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.chdir(programs)


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("mlx_audio_turbo.tts --ref", ["--ref_audio", "--ref_start"]),
        ("mlx_audio_turbo.tts --format o", ["ogg", "opus"]),
        ("mlx_audio_turbo.tts --format=o", ["ogg", "opus"]),
        ("mlx_audio_turbo.tts Hi --voice ", ["anna", "bob.2"]),
        ("mlx_audio_turbo.tts --voice a", ["anna"]),
        ("mlx_audio_turbo.tts Hi --seed ", []),
        ("mlx_audio_turbo.tts Hi --temp", ["--temperature"]),
        ("mlx_audio_turbo.voices re", ["remove"]),
        ("mlx_audio_turbo.voices remove b", ["bob.2"]),
        ("mlx_audio_turbo.voices show ann", ["anna"]),
        ("mlx_audio_turbo.voices add --con", ["--consent"]),
        ("mlx_audio_turbo.voices add an", []),
        ("mlx_audio_turbo.voices list --con", []),
        ("mlx_audio_turbo.voices add eva mlx_audio_turbo.t", ["mlx_audio_turbo.tts"]),
    ],
)
def test_completion(line: str, proposed: list[str], shell_path: None) -> None:
    assert complete(line) == proposed


def test_completion_without_a_home(shell_path: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_AUDIO_TURBO_VOICES", "/no/such/folder")
    assert complete("mlx_audio_turbo.tts Hi --voice x") == []


@pytest.mark.parametrize("shell", ["bash --norc --noprofile -i", "zsh -f -i"])
def test_a_shell_completes_what_is_typed(shell: str, shell_path: None, tmp_path: Path) -> None:
    """In a terminal, with the line of the documentation."""
    name = shell.split()[0]
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    line = f'eval "$(mlx_audio_turbo.voices --print_completion {name})"; echo rea""dy\n'
    child, screen = pty.fork()
    if child == 0:
        # compinit asks no questions about folders that others may write.
        os.environ |= {"HOME": str(tmp_path), "ZSH_DISABLE_COMPFIX": "true", "TERM": "dumb"}
        os.execvp(name, shell.split())
    try:
        wait_for(screen, "")
        os.write(screen, line.encode())
        wait_for(screen, "ready")
        os.write(screen, b"mlx_audio_turbo.voices re\t")
        wait_for(screen, "voices remove ")
        os.write(screen, b"bo\t")
        wait_for(screen, "bob.2")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(screen)


def wait_for(screen: int, text: str) -> None:
    """Read until ``text`` is there, past what moves the cursor."""
    seen, deadline = "", time.monotonic() + 30
    while text not in seen or not seen:
        assert time.monotonic() < deadline, seen
        if select.select([screen], [], [], 0.1)[0]:
            seen += os.read(screen, 10_000).decode("utf-8", "replace")


@pytest.mark.parametrize("command", ["tts", "vc", "voices"])
def test_the_command_prints_it(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"mlx_audio_turbo.{command}", "--print-completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert f"mlx_audio_turbo.{command}" in done.stdout
