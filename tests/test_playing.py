"""Playing, on a sound card made of paper."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mlx_audio_turbo.cli.player import Player
from mlx_audio_turbo.errors import ExtraError

RATE = 24_000


class Card:
    """Stands for sounddevice and for its one stream. seconds: real ones for a second of sound."""

    class PortAudioError(Exception):
        pass

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.calls: list[str] = []
        self.played: list[np.ndarray] = []
        self.devices = ["card"]
        self.breaks_after: int | None = None

    def query_devices(self) -> list[str]:
        return self.devices

    def OutputStream(self, **options: object) -> Card:
        assert options == {"samplerate": RATE, "channels": 1, "dtype": "float32", "latency": 0.2}
        if not self.devices:
            raise self.PortAudioError("Error querying device -1")
        self.calls, self.played = [], []
        return self

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")

    def write(self, audio: np.ndarray) -> None:
        if len(self.played) == self.breaks_after:
            raise self.PortAudioError("Unanticipated host error")
        assert "start" in self.calls and "close" not in self.calls
        assert audio.ndim == 2
        time.sleep(self.seconds * len(audio) / RATE)
        self.played.append(audio[:, 0].copy())

    def sound(self) -> np.ndarray:
        """What was played, without silence."""
        played = np.concatenate([*self.played, np.zeros(0)])
        return played[played != 0]


def put_in(monkeypatch: pytest.MonkeyPatch, card: Card) -> Card:
    monkeypatch.setitem(sys.modules, "sounddevice", card)  # pyright: ignore[reportArgumentType]
    return card


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return put_in(monkeypatch, Card())


def ramp(seconds: float, start: float = 1.0) -> np.ndarray:
    return np.linspace(start, start + 1, round(seconds * RATE), dtype=np.float32)


def test_all_is_played_in_order_and_silence_ends_it(card: Card) -> None:
    """What lies ready in a card when it stops may be dropped, so that must be silence."""
    parts = [ramp(0.31), ramp(0.001, 3), ramp(0.2, 5)]
    with Player(RATE) as player:
        for part in parts:
            player.play(part)
    np.testing.assert_array_equal(card.sound(), np.concatenate(parts))
    assert card.calls == ["start", "stop", "close"]
    assert not np.concatenate(card.played)[-round(0.25 * RATE) :].any()


def test_the_sound_card_is_fed_without_gaps(card: Card) -> None:
    """Neither before the first sound, when it has not begun, nor between two."""
    with Player(RATE) as player:
        time.sleep(0.15)
        assert card.calls == []
        player.play(ramp(0.1))
        time.sleep(0.4)
        silence = sum(len(part) for part in card.played if not part.any())
        assert silence >= 0.1 * RATE
        player.play(ramp(0.1, 3))
    assert len(card.sound()) == round(0.2 * RATE)


def test_no_audio_opens_no_device(card: Card) -> None:
    with Player(RATE):
        pass
    assert card.calls == ["close"]


def test_an_error_silences_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and the stream is closed when no thread writes any more."""
    card = put_in(monkeypatch, Card(seconds=1))
    before = threading.active_count()
    started = time.monotonic()
    with pytest.raises(KeyError), Player(RATE) as player:
        player.play(ramp(60))
        time.sleep(0.2)
        raise KeyError
    assert time.monotonic() - started < 2
    assert card.calls[-1] == "close"
    assert threading.active_count() == before


def test_a_removed_sound_card_gives_one_line(card: Card) -> None:
    card.breaks_after = 3
    unanticipated = pytest.raises(ExtraError, match=r"the sound card stopped \(Unanticipated")
    with unanticipated, Player(RATE) as player:
        player.play(ramp(1))
    with pytest.raises(ExtraError, match="the sound card stopped"), Player(RATE) as player:
        while True:
            player.play(ramp(1))
            time.sleep(0.01)


def test_no_sound_card_gives_one_line(card: Card) -> None:
    card.devices = []
    with pytest.raises(ExtraError, match=r"opened \(there is none\); use --output"):
        Player(RATE)


def test_a_missing_portaudio_gives_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(ExtraError, match=r"PortAudio \(.*not found\); install it with: \w+ .*port"):
        Player(RATE)
