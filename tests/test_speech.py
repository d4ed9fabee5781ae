"""What the model gives back, and what the package shows to the world."""

from __future__ import annotations

import base64
import io
import logging
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mlx_audio_turbo
from mlx_audio_turbo import AudioError, Speech


@pytest.fixture
def speech() -> Speech:
    t = np.arange(24_000) / 24_000
    return Speech(
        audio=(0.5 * np.sin(2 * np.pi * 200 * t)).astype(np.float32),
        text="Hello <there>.",
        tokens=np.arange(25, dtype=np.int32),
        seed=7,
        seconds={"tokens": 0.2, "audio": 0.3},
    )


def test_duration_and_timings(speech: Speech) -> None:
    assert speech.duration == 1.0
    assert speech.real_time_factor == 0.5
    assert replace(speech, audio=np.zeros(0, np.float32)).real_time_factor == 0
    assert repr(speech) == "Speech(1.00 s, 'Hello <there>.', seed=7)"


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus"])
def test_save(speech: Speech, tmp_path: Path, suffix: str) -> None:
    path = speech.save(tmp_path / f"hello.{suffix}")
    assert abs(soundfile.info(path).duration - 1) < 0.1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_save_is_whole_or_not_at_all(
    speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hello.wav"
    path.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioError, match="No space left"):
        speech.save(path)
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["hello.wav"]


def test_to_int16(speech: Speech, tmp_path: Path) -> None:
    integers = speech.to_int16()
    assert integers.dtype == np.int16
    written = soundfile.read(speech.save(tmp_path / "x.wav"), dtype="int16")[0]
    np.testing.assert_array_equal(integers, written)


@pytest.mark.parametrize(("repeats", "kind", "container"), [(1, "wav", "WAV"), (70, "mpeg", "MP3")])
def test_plays_in_a_notebook(speech: Speech, repeats: int, kind: str, container: str) -> None:
    html = replace(speech, audio=np.tile(speech.audio, repeats))._repr_html_()
    found = re.search(rf'src="data:audio/{kind};base64,([^"]+)"', html)
    assert found
    info = soundfile.info(io.BytesIO(base64.b64decode(found[1])))
    assert info.format == container
    assert abs(info.duration - repeats) < 0.1
    assert "Hello &lt;there&gt;." in html


def test_public_names() -> None:
    assert sorted(mlx_audio_turbo.__all__) == list(mlx_audio_turbo.__all__)
    for name in mlx_audio_turbo.__all__:
        assert getattr(mlx_audio_turbo, name) is not None
    assert {"ChatterboxTurbo", "Speech", "Voice", "TurboError", "ExtraError"} <= set(
        mlx_audio_turbo.__all__
    )
    assert Path(mlx_audio_turbo.__file__).with_name("py.typed").exists()


def test_every_public_callable_says_its_types() -> None:
    import inspect

    for name in ("ChatterboxTurbo", "Speech", "Voice"):
        owner = getattr(mlx_audio_turbo, name)
        for attribute, member in vars(owner).items():
            if attribute.startswith("_") or not inspect.isfunction(member):
                continue
            signature = inspect.signature(member)
            assert signature.return_annotation is not inspect.Signature.empty, attribute
            for parameter in list(signature.parameters.values())[1:]:
                assert parameter.annotation is not inspect.Parameter.empty, (attribute, parameter)
                if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                    assert str(parameter.annotation).startswith("Unpack["), attribute


def test_errors_are_one_family() -> None:
    for name in mlx_audio_turbo.__all__:
        if name.endswith("Error"):
            assert issubclass(getattr(mlx_audio_turbo, name), mlx_audio_turbo.TurboError)


def test_silent_by_default() -> None:
    """Python prints warnings of loggers that nobody set up, unless the package has a handler."""
    handlers = logging.getLogger("mlx_audio_turbo").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)
    code = (
        "import mlx_audio_turbo, logging\n"
        "logging.getLogger('mlx_audio_turbo.audio.clip_reader').warning('hush')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
