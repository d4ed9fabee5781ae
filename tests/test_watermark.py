"""Perth's watermark: through a stand-in, and with the real one where it is installed."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mlx_audio_turbo import AudioError, ExtraError, Speech, tts
from mlx_audio_turbo.audio import watermark

from .conftest import CLIP


class Perth:
    """As resemble-perth behaves: 32 kHz inside, so an end may get lost; says hello on stdout."""

    def __init__(self) -> None:
        print("loaded PerthNet (Implicit) at step 250,000")

    def apply_watermark(self, signal: np.ndarray, sample_rate: int) -> np.ndarray:
        return np.asarray(signal[:-7] + 0.001, np.float64)

    def get_watermark(self, signal: np.ndarray, sample_rate: int, round: bool) -> np.ndarray:
        return np.full(32, float(np.mean(signal) > 0.0005))


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    watermark._perth.cache_clear()
    yield
    watermark._perth.cache_clear()


@pytest.fixture
def perth(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("perth")
    module.PerthImplicitWatermarker = Perth  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "perth", module)


@pytest.fixture
def speech() -> Speech:
    noise = np.random.default_rng(0).standard_normal(24_000) * 0.1
    audio = (noise - noise.mean()).astype(np.float32)
    return Speech(audio=audio, text="x", tokens=np.zeros(25, np.int32), seed=0)


def test_mark_and_detect(perth: None, speech: Speech, tmp_path: Path) -> None:
    marked = speech.with_watermark()
    assert marked.watermarked
    assert marked.audio.shape == speech.audio.shape
    assert marked.audio.dtype == np.float32
    assert marked.with_watermark() is marked
    assert watermark.detect_samples(marked.audio, 24_000) == 1
    assert watermark.detect_samples(speech.audio, 24_000) == 0


def test_perth_prints_nothing_on_stdout(
    perth: None, speech: Speech, capsys: pytest.CaptureFixture[str]
) -> None:
    speech.with_watermark()
    assert capsys.readouterr().out == ""


def test_audio_too_short_to_mark_is_refused(perth: None, speech: Speech) -> None:
    with pytest.raises(AudioError, match="too few"):
        watermark.apply(speech.audio[:2000], 24_000)


def test_generate(perth: None, model, voice) -> None:
    plain = model.generate("Hello there.", voice=voice, seed=1, max_tokens=12)
    marked = model.generate("Hello there.", voice=voice, seed=1, max_tokens=12, watermark=True)
    assert not plain.watermarked
    assert marked.watermarked
    np.testing.assert_allclose(marked.audio[:-7], plain.audio[:-7] + 0.001, atol=1e-6)


def test_the_command(
    perth: None, tiny_folder: Path, voice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, out = voice.save(tmp_path / "v.safetensors"), tmp_path / "out.wav"
    arguments = ["Hello there.", "--model", "tiny", "--voice", str(kept), "--max_tokens", "12"]
    assert tts.main([*arguments, "--output", str(out), "--watermark", "--json"]) == 0
    assert '"watermarked": true' in capsys.readouterr().out
    assert tts.main(["--detect", str(out)]) == 0
    assert "watermark" in capsys.readouterr().out
    assert tts.main(["--detect", str(CLIP), "--json"]) == 0
    assert capsys.readouterr().out == f'{{"path": "{CLIP}", "watermark": 0.0}}\n'
    assert tts.main(["--detect", str(tmp_path / "absent.wav")]) == 2


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, model, voice) -> None:
    monkeypatch.setitem(sys.modules, "perth", None)
    with pytest.raises(ExtraError, match=r"mlx-audio-turbo\[watermark\]"):
        model.generate("Hello.", voice=voice, watermark=True)


def test_without_pkg_resources(monkeypatch: pytest.MonkeyPatch, speech: Speech) -> None:
    """resemble-perth swallows the ImportError and leaves None behind."""
    module = types.ModuleType("perth")
    module.PerthImplicitWatermarker = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "perth", module)
    with pytest.raises(ExtraError, match="setuptools<81"):
        speech.with_watermark()


@pytest.mark.skipif(importlib.util.find_spec("perth") is None, reason="resemble-perth is absent")
def test_the_real_one() -> None:
    from mlx_audio_turbo.audio.files import load_audio

    samples = load_audio(CLIP, sample_rate=24_000)
    marked = watermark.apply(samples, 24_000)
    assert watermark.detect_samples(marked, 24_000) > 0.9
    assert watermark.detect_samples(samples, 24_000) < 0.1
