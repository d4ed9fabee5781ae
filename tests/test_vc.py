"""The command that converts voices: what it writes, and how it refuses."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import Voice, VoiceConverter, vc

from .conftest import CLIP


@pytest.fixture
def source(
    tiny_folder: Path, voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Three seconds of speech; the current folder holds a voice too."""
    samples, rate = soundfile.read(CLIP)
    soundfile.write(tmp_path / "me.wav", samples[: 3 * rate], rate)
    voice.save(tmp_path / "v.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "me.wav"


def convert(*more: str, code: int = 0) -> None:
    given = ["me.wav", "--model", "tiny", "--seed", "3", *more]
    if not {"--voice", "--ref_audio"} & set(more):
        given += ["--voice", "./v.safetensors"]
    assert vc.main(given) == code


def test_it_is_what_the_library_makes(
    source: Path, voice: Voice, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert("--json", "--plot", "me.png", "--quiet")
    told = json.loads(capsys.readouterr().out)
    written, rate = soundfile.read("converted.wav", dtype="int16")
    speech = VoiceConverter.from_pretrained(tiny_folder).convert(source, voice=voice, seed=3)
    np.testing.assert_array_equal(written, speech.to_int16())
    assert (told["duration"], told["tokens"], told["seed"]) == (3.0, 75, 3)
    assert rate == told["sample_rate"] == 24_000
    assert Path("me.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["flac", "mp3", "pcm"])
def test_formats_and_folders(suffix: str, source: Path) -> None:
    Path("out").mkdir()
    for _ in range(2):
        convert("--output", "out/", "--format", suffix, "--stream")
    assert {path.name for path in Path("out").iterdir()} == {f"me.{suffix}", f"me-2.{suffix}"}


def test_a_clip_gives_the_voice(source: Path) -> None:
    convert("--ref_audio", str(CLIP), "--save_voice", "anna", "--output", "one.wav")
    convert("--voice", "anna", "--output", "two.wav")
    assert Path("one.wav").read_bytes() == Path("two.wav").read_bytes()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--output", "me.wav"], "would replace me.wav, the source"),
        (["--output", "link.wav"], "would replace me.wav, the source"),
        (["--ref_audio", "clip.wav", "--output", "clip.wav"], "would replace clip.wav, the clip"),
        (["--output", "no/such/o.wav"], "there is no folder"),
        (["--output", "x" * 300 + ".wav"], "File name too long"),
        (["--voice", "nobody"], "there is no voice 'nobody'"),
        (["--seed", "-1"], "seed is -1"),
        (["--stream", "--watermark"], "exclude each other"),
        (["--save_voice", "x"], "--save_voice needs a clip"),
        (["--model", "no-such-folder"], "no model folder"),
    ],
)
def test_what_is_refused(
    more: list[str], said: str, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.symlink("me.wav", "link.wav")
    shutil.copy(source, "clip.wav")
    before = source.read_bytes()
    convert(*more, code=2)
    out, err = capsys.readouterr()
    assert out == "" and said in err and len(err.splitlines()) == 1
    assert source.read_bytes() == before


def test_a_source_that_is_absent_or_none(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (None, b"", b"no sound"):
        source.unlink() if content is None else source.write_bytes(content)
        convert(code=2)
        assert "me.wav" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("converted.wav").exists()
