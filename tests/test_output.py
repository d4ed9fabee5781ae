"""Standard output that cannot be written: its reader has gone, or the disk is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "tts": "mlx_audio_turbo.tts",
    "vc": "mlx_audio_turbo.vc",
    "serve": "mlx_audio_turbo.serve",
    "voices": "mlx_audio_turbo.voices",
    "benchmark": "mlx_audio_turbo.benchmark",
    "doctor": "mlx_audio_turbo.doctor",
    "convert": "mlx_audio_turbo_convert",
}
LINES = [
    *(f"{command} --help" for command in COMMANDS),
    "tts --list_tags",
    "tts --print_completion=fish",
    "voices list --json",
    "doctor --only sampling --quiet",
    "convert synthetic --size tiny --output {folder}/made --force",
]


def command(line: str, folder: Path, output: int) -> subprocess.CompletedProcess[bytes]:
    name, *arguments = line.format(folder=folder).split()
    environment = os.environ | {"MLX_AUDIO_TURBO_CACHE": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", COMMANDS[name], *arguments],
        stdout=output,
        stderr=subprocess.PIPE,
        env=environment,
    )


@pytest.mark.parametrize("line", LINES)
def test_a_command_whose_reader_has_gone_ends_quietly(line: str, tmp_path: Path) -> None:
    unread, written = os.pipe()
    os.close(unread)
    done = command(line, tmp_path, written)
    os.close(written)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("line", LINES)
def test_a_command_on_a_full_disk_says_so_in_a_line(line: str, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = command(line, tmp_path, full.fileno())
    said = done.stderr.decode().splitlines()
    assert done.returncode == 2, said
    assert len(said) == 1 and "No space left on device" in said[0], said
