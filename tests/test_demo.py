"""The model in the package: it speaks on a fresh machine, with its own defaults and voices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mlx_audio_turbo import ChatterboxTurbo, VoiceConverter, VoiceError
from mlx_audio_turbo.loading.catalog import model_voice, resolve

from .measure.demo_goldens import PATH, SENTENCES, distance, sketch, speak

ROOT = Path(__file__).parents[1]
SIZE = 24_000_000
"""Bytes of the folder; compressed in the wheel it is less."""


@pytest.fixture(scope="module")
def demo() -> ChatterboxTurbo:
    return ChatterboxTurbo.from_pretrained("demo")


def test_it_is_small_and_says_what_it_is(demo: ChatterboxTurbo) -> None:
    assert sum(path.stat().st_size for path in resolve("demo").rglob("*")) < SIZE
    assert demo.trained
    assert "no cloning" in demo.notes[0]


def test_it_has_three_voices_and_a_default(demo: ChatterboxTurbo) -> None:
    assert demo.voices == ("awb", "rms", "slt")
    assert demo.builtin_voice == demo.load_voice("rms")
    with pytest.raises(VoiceError, match="choose one of awb, rms, slt"):
        demo.load_voice("anna")


def test_the_converter_has_the_voices_of_the_model(demo: ChatterboxTurbo) -> None:
    converter = VoiceConverter.from_pretrained("demo")
    assert converter.voices == demo.voices
    assert converter.load_voice("slt") == demo.load_voice("slt")


def test_a_voice_is_found_by_its_name_only() -> None:
    assert model_voice("demo", "slt") is not None
    assert model_voice("demo", "anna") is None
    assert model_voice("demo", "../conds") is None


def test_it_takes_its_own_generation_defaults(demo: ChatterboxTurbo) -> None:
    own = demo.config.generation
    assert own["segment_limit"] == 120
    long = "This is a sentence of a text that is far too long for one segment. " * 3
    parts = list(demo.generate_parts(long, seed=1))
    assert len(parts) == 3
    explicit = demo.generate("Hello there.", seed=1, **own)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(demo.generate("Hello there.", seed=1).audio, explicit.audio)
    assert demo.config.rendering.noise_scale == 0


@pytest.mark.parametrize("name", ["rms", "slt", "awb"])
def test_it_speaks(demo: ChatterboxTurbo, name: str) -> None:
    """Loud, voiced and about as long as the words take; the words are for ``make listen``."""
    speech = demo.generate("We walked along the river.", voice=demo.load_voice(name), seed=1)
    assert 1.0 < speech.duration < 4.0
    assert 0.01 < speech.audio.std() < 0.5
    spectrum = np.abs(np.fft.rfft(speech.audio)) ** 2
    frequency = np.fft.rfftfreq(len(speech.audio), 1 / 24_000)
    assert spectrum[frequency < 1_000].sum() > 3 * spectrum[frequency > 4_000].sum()


@pytest.mark.parametrize("name", SENTENCES)
def test_it_says_what_was_recorded(demo: ChatterboxTurbo, name: str) -> None:
    """The tokens, and the sound of them, of which noise and other speech are far."""
    with np.load(PATH) as file:
        tokens, recorded = file[f"{name}.tokens"], file[f"{name}.sketch"]
    speech = speak(demo, name)
    np.testing.assert_array_equal(speech.tokens, tokens)
    assert distance(sketch(speech.audio), recorded) < 0.5
    noise = np.random.default_rng(0).standard_normal(len(speech.audio))
    like = (noise * speech.audio.std()).astype(np.float32)
    assert distance(sketch(like), recorded) > 15
    other = demo.render(speech.tokens[::-1].copy(), voice=demo.load_voice(name), seed=1)
    assert distance(sketch(other), recorded) > 10


def test_the_command_speaks_without_a_clip_or_a_network(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        "from mlx_audio_turbo.tts import main\n"
        "sys.exit(main())"
    )
    out = tmp_path / "hello.wav"
    options = ("--model", "demo", "--voice", "slt")
    done = subprocess.run(
        [sys.executable, "-c", code, "Hello.", *options, "--output", str(out)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 10_000


def test_its_sources_are_credited() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    assert "CMU" in notice and "Flite" in notice and "assets/demo" in notice
