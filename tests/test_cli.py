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

from mlx_audio_turbo.cli.completion import script
from mlx_audio_turbo.cli.docs import render
from mlx_audio_turbo.cli.options import tts_parser, voices_parser
from mlx_audio_turbo_convert.__main__ import parser as convert_parser

DOCS = Path(__file__).parents[1] / "docs"


def test_the_documentation_is_that_of_the_parsers() -> None:
    assert (DOCS / "cli.md").read_text("utf-8") == render(), (
        "run: python -m mlx_audio_turbo.cli.docs > docs/cli.md"
    )


def test_every_option_is_documented() -> None:
    page = render()
    for parser in (tts_parser(), voices_parser()):
        for action in parser._actions:
            for name in action.option_strings:
                assert name in page or name in ("-h", "--help")


def every_parser() -> list[argparse.ArgumentParser]:
    """Those of the commands, and of theirs."""
    found = [tts_parser(), voices_parser(), convert_parser()]
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


@pytest.mark.parametrize("parser", [tts_parser(), voices_parser()], ids=lambda p: p.prog)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse(parser, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    text = script(parser, shell)
    subprocess.run([shell, "-n"], input=text, text=True, check=True)


def complete(words: list[str]) -> list[str]:
    """What bash proposes for the last of ``words``."""
    parser = voices_parser() if words[0].endswith("voices") else tts_parser()
    asked = script(parser, "bash") + (
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        f"_{words[0].replace('.', '_')}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    return done.stdout.split()


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


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(shell_path: None) -> None:
    assert complete(["mlx_audio_turbo.tts", "--ref"]) == ["--ref_audio", "--ref_start"]
    assert complete(["mlx_audio_turbo.tts", "--format", "o"]) == ["ogg", "opus"]
    assert complete(["mlx_audio_turbo.tts", "--format", "=", "o"]) == ["ogg", "opus"]
    assert len(complete(["mlx_audio_turbo.tts", "--format", "="])) == 6
    assert complete(["mlx_audio_turbo.tts", "Hi", "--voice", ""]) == ["anna", "bob.2"]
    assert complete(["mlx_audio_turbo.voices", "re"]) == ["remove"]
    assert complete(["mlx_audio_turbo.voices", "remove", "b"]) == ["bob.2"]
    assert complete(["mlx_audio_turbo.voices", "add", "--con"]) == ["--consent"]
    assert complete(["mlx_audio_turbo.voices", "list", "--con"]) == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes(shell_path: None, tmp_path: Path) -> None:
    def complete(line: str) -> list[str]:
        texts = [script(parser(), "fish") for parser in (tts_parser, voices_parser)]
        asked = "\n".join([*texts, f"complete -C'{line}'"])
        done = subprocess.run(["fish"], input=asked, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert complete("mlx_audio_turbo.tts --ref") == ["--ref_audio", "--ref_start"]
    assert complete("mlx_audio_turbo.tts --format o") == ["ogg", "opus"]
    assert complete("mlx_audio_turbo.tts --voice a") == ["anna"]
    assert complete("mlx_audio_turbo.tts --seed ") == []
    assert complete("mlx_audio_turbo.voices ") == [
        *("add", "export", "import", "list", "remove", "show")
    ]
    assert complete("mlx_audio_turbo.voices remove ") == ["anna", "bob.2"]
    assert complete("mlx_audio_turbo.voices add --c") == ["--consent"]
    assert complete("mlx_audio_turbo.voices list --c") == []
    assert "mlx_audio_turbo.tts" in complete("mlx_audio_turbo.voices add anna m")


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


@pytest.mark.parametrize("command", ["tts", "voices"])
def test_the_command_prints_it(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"mlx_audio_turbo.{command}", "--print-completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert f"complete -o default -F _mlx_audio_turbo_{command}" in done.stdout
