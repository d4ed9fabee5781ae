"""What is made of the parsers: the documentation and the shells' completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_audio_turbo.cli.completion import script
from mlx_audio_turbo.cli.docs import render
from mlx_audio_turbo.cli.options import tts_parser, voices_parser

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


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes() -> None:
    assert complete(["mlx_audio_turbo.tts", "--ref"]) == ["--ref_audio", "--ref_start"]
    assert complete(["mlx_audio_turbo.tts", "--format", "o"]) == ["ogg", "opus"]
    assert complete(["mlx_audio_turbo.voices", "re"]) == ["remove"]
    assert complete(["mlx_audio_turbo.voices", "add", "--con"]) == ["--consent"]


def test_fish_has_every_option() -> None:
    text = script(tts_parser(), "fish")
    assert "complete -c mlx_audio_turbo.tts -l ref_audio -r -d " in text
    assert "-l format -r -fa 'wav flac mp3 ogg opus pcm'" in text


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
