"""The command: what it writes, what it says, and how it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import tts

from .conftest import CLIP


def speak(tmp_path: Path, *more: str) -> list[str]:
    return [
        *("--model", "tiny", "--text", "Hello there.", "--ref_audio", str(CLIP)),
        *("--output", str(tmp_path / "out.wav"), "--seed", "3", "--max_tokens", "12", *more),
    ]


def test_writes_a_wav(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tts.main(speak(tmp_path)) == 0
    samples, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 24_000
    assert len(samples) % 960 == 0
    assert samples.std() > 0.005
    out, err = capsys.readouterr()
    assert "seed 3" in out
    assert "untrained" in err or "not trained" in err


def test_same_seed_same_file(tmp_path: Path, tiny_folder: Path) -> None:
    tts.main(speak(tmp_path))
    first = (tmp_path / "out.wav").read_bytes()
    tts.main(speak(tmp_path))
    assert (tmp_path / "out.wav").read_bytes() == first


def test_a_kept_voice_speaks_alike(tmp_path: Path, tiny_folder: Path) -> None:
    kept = tmp_path / "anna.safetensors"
    assert tts.main(speak(tmp_path, "--save_voice", str(kept))) == 0
    first = (tmp_path / "out.wav").read_bytes()
    arguments = speak(tmp_path)
    at = arguments.index("--ref_audio")
    arguments[at : at + 2] = ["--voice", str(kept)]
    assert tts.main(arguments) == 0
    assert (tmp_path / "out.wav").read_bytes() == first


def test_dashes_are_accepted() -> None:
    given = ["--ref-audio", "a-b.wav", "--top-k=3", "--text", "well-known"]
    assert tts.underscored(given) == ["--ref_audio", "a-b.wav", "--top_k=3", "--text", "well-known"]


def test_verbose(tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tts.main(speak(tmp_path, "--verbose")) == 0
    err = capsys.readouterr().err
    assert "matrix products" in err
    assert "real-time factor" in err


def clips(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    sounds = {
        "short": rng.standard_normal(16_000 * 5) * 0.1,
        "silent": np.zeros(16_000 * 8),
        "nan": np.full(16_000 * 8, np.nan),
        "empty": np.zeros(0),
    }
    paths = {}
    for name, samples in sounds.items():
        paths[name] = folder / f"{name}.wav"
        soundfile.write(paths[name], samples, 16_000, subtype="FLOAT")
    paths["text"] = folder / "text.wav"
    paths["text"].write_text("this is no audio")
    paths["absent"] = folder / "absent.wav"
    paths["folder"] = folder
    return paths


@pytest.mark.parametrize("clip", ["short", "silent", "nan", "empty", "text", "absent", "folder"])
def test_bad_clips(
    tmp_path: Path, tiny_folder: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = speak(tmp_path)
    arguments[arguments.index(str(CLIP))] = str(clips(tmp_path)[clip])
    refused(arguments, tmp_path, capsys)


@pytest.mark.parametrize(
    "more",
    [
        ("--text", ""),
        ("--text", "  \n"),
        ("--text", "word " * 3000),
        ("--text", "half \ud800 a pair"),
        ("--model", "no-such-folder"),
        ("--model", "someone/not-there"),
        ("--output", "/no/such/folder/out.wav"),
        ("--output", "out.xyz"),
        ("--temperature", "-1"),
        ("--top_p", "2"),
        ("--max_tokens", "0"),
        ("--seed", "-5"),
    ],
)
def test_bad_options(
    tmp_path: Path,
    tiny_folder: Path,
    more: tuple[str, str],
    capsys: pytest.CaptureFixture[str],
    offline: None,
) -> None:
    refused(speak(tmp_path, *more), tmp_path, capsys)


def test_damaged_folders(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    broken = Path(shutil.copytree(tiny_folder, tmp_path / "broken"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    refused(speak(tmp_path, "--model", str(broken)), tmp_path, capsys)


def refused(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr, exit code 2, nothing written."""
    assert tts.main(arguments) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "not trained" not in line]
    assert out == ""
    assert len(lines) == 1, err
    assert lines[0].startswith("mlx_audio_turbo.tts: ")
    assert not list(folder.glob("*out*"))


def test_usage_errors_exit_with_2() -> None:
    for arguments in ([], ["--text", "x"], ["--nonsense"]):
        with pytest.raises(SystemExit) as caught:
            tts.main(arguments)
        assert caught.value.code == 2


def test_help_fits_a_terminal(cache: Path) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "mlx_audio_turbo.tts", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80", "PATH": ""},
    ).stdout
    assert "--ref_audio" in out
    assert max(map(len, out.splitlines())) <= 80
