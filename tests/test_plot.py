"""Speech to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import AudioError, ExtraError, Speech
from mlx_audio_turbo import plotting as plot

from .conftest import CLIP

pytest.importorskip("matplotlib")


@pytest.fixture
def speech() -> Speech:
    """A tone that rises from 120 to 240 Hz with its harmonics, then silence."""
    f0 = np.linspace(120, 240, 48_000)
    phase = 2 * np.pi * np.cumsum(f0) / 24_000
    tone = sum(np.sin(k * phase) / k for k in range(1, 20)) * 0.2
    audio = np.concatenate([np.asarray(tone), np.zeros(12_000)]).astype(np.float32)
    return Speech(audio=audio, text="Up we $go$.", tokens=np.arange(62, dtype=np.int32), seed=7)


def test_f0_of_a_known_tone(speech: Speech) -> None:
    f0 = plot._f0(plot._frames(speech.audio), 24_000)
    times = np.arange(len(f0)) * 0.02
    inside = (times > 0.05) & (times < 1.95)
    np.testing.assert_allclose(f0[inside], np.interp(times, [0, 2], [120, 240])[inside], rtol=0.02)
    assert np.all(np.isnan(f0[times > 2.05]))


def test_f0_of_noise_is_none() -> None:
    noise = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.1
    assert np.isnan(plot._f0(plot._frames(noise), 24_000)).mean() > 0.95


def test_f0_of_a_voice() -> None:
    samples, rate = soundfile.read(CLIP, dtype="float32")
    from mlx_audio_turbo.audio.resample import resample_soxr

    f0 = plot._f0(plot._frames(resample_soxr(samples, rate, 24_000)), 24_000)
    assert 0.3 < np.mean(~np.isnan(f0)) < 0.8
    assert 120 < np.nanmedian(f0) < 260


def test_mel_of_a_tone() -> None:
    tone = np.sin(2 * np.pi * 1_000 * np.arange(24_000) / 24_000).astype(np.float32)
    mel = plot._log_mel(plot._frames(tone), 24_000)
    assert mel.shape == (51, 80)
    assert abs(mel[25].argmax() + 0.5 - plot._hz_to_band(1_000)) <= 1


def test_a_notebook_shows_it(speech: Speech) -> None:
    """As IPython asks for it: by this method, where pyplot has not taken care of figures."""
    figure: Any = speech.plot()
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_an_image(speech: Speech, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"speech.{suffix}"
    figure = speech.plot(path)
    assert path.stat().st_size > 10_000
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels[0] == "waveform"
    assert labels[2:] == ["F0 (Hz)", "tokens"]
    assert figure.axes[0].get_xlim() == figure.axes[3].get_xlim() == (0, 2.5)


def test_two_beside_each_other(speech: Speech) -> None:
    figure = plot.compare(speech, replace(speech, seed=8), labels=("fp16", "4 bit"))
    assert len(figure.axes) == 8
    assert [axis.get_title() for axis in figure.axes[:2]] == ["fp16", "4 bit"]
    spectrograms = [axis.images[0].get_clim() for axis in figure.axes[2:4]]
    assert spectrograms[0] == spectrograms[1]


def test_gaps_and_nothing(speech: Speech, tmp_path: Path) -> None:
    """Long texts have gaps between their tokens; silence has nothing at all."""
    gappy = replace(speech, tokens=np.array([5, -1, -1, 4299, 7], np.int32))
    gappy.plot(tmp_path / "gappy.png")
    empty = replace(speech, audio=np.zeros(0, np.float32), tokens=np.zeros(0, np.int32))
    empty.plot(tmp_path / "empty.png")


def test_refusals(speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("x.doc", "no/such/folder/x.png", tmp_path):
        with pytest.raises(AudioError):
            speech.plot(path)
    with pytest.raises(AudioError, match="nothing to draw"):
        plot.compare()
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ExtraError, match=r"mlx-audio-turbo\[plot\]"):
        speech.plot()
