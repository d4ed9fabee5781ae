"""VoiceEncoder on a tiny random network, against the formulas in numpy."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo.config import VoiceEncoderConfig
from mlx_audio_turbo.encoders import voice_encoder
from mlx_audio_turbo.encoders.voice_encoder import STEP, WINDOW, VoiceEncoder, windows
from mlx_audio_turbo_convert.mapping.voice_encoder import RULES
from mlx_audio_turbo_convert.synthetic import shapes

from . import mapped

CONFIG = VoiceEncoderConfig(mels=10, hidden=8, layers=3, embedding=12)


def mel(frames: int, *, seed: int = 0) -> mx.array:
    values = np.random.default_rng(seed).random((frames, CONFIG.mels))
    return mx.array(values.astype(np.float32))


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    tensors = mapped.draw(shapes.voice_encoder(CONFIG))
    tensors["proj.bias"] += 0.1  # ReLU silences some values and not all
    return tensors


@pytest.fixture
def network(weights: dict[str, np.ndarray]) -> VoiceEncoder:
    network = VoiceEncoder(CONFIG)
    mapped.fill(network, RULES, weights, prefix="ve.")
    return network


def test_windows_start_every_77_frames() -> None:
    assert (WINDOW, STEP) == (160, 77)


@pytest.mark.parametrize(
    ("frames", "count"),
    [
        (1, 1),
        (83, 1),
        (159, 1),
        (160, 1),
        (160 + 44, 1),  # the next one would be filled to (83 + 44) / 160 = 0.79
        (160 + 45, 2),  # 0.8
        (160 + 77, 2),
        (160 + 77 + 44, 2),
        (160 + 77 + 45, 3),
        (3000, 38),
    ],
)
def test_windows_of_any_length(frames: int, count: int) -> None:
    """Whole windows, in order, then zeros: nothing before a last sparse window is left out."""
    whole = np.array(mel(frames))
    cut = windows(mx.array(whole))
    assert cut.shape == (count, WINDOW, CONFIG.mels)
    padded = np.pad(whole, [(0, WINDOW), (0, 0)])
    for index, window in enumerate(np.array(cut)):
        assert (window == padded[index * STEP : index * STEP + WINDOW]).all()
    assert frames - (WINDOW + STEP * (count - 1)) < 45


def lstm_in_numpy(x: np.ndarray, weights: dict[str, np.ndarray], layers: int) -> np.ndarray:
    """Last hidden state of one window; PyTorch's layout, gates i, f, g, o."""

    def sigmoid(y: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-y))

    for layer in range(layers):
        hidden = cell = np.zeros(CONFIG.hidden)
        states = []
        for frame in x:
            gates = (
                weights[f"lstm.weight_ih_l{layer}"] @ frame
                + weights[f"lstm.bias_ih_l{layer}"]
                + weights[f"lstm.weight_hh_l{layer}"] @ hidden
                + weights[f"lstm.bias_hh_l{layer}"]
            )
            i, f, g, o = np.split(gates, 4)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(cell)
            states.append(hidden)
        x = np.stack(states)
    return x[-1]


def test_embedding_is_the_formula(network: VoiceEncoder, weights: dict[str, np.ndarray]) -> None:
    """Fails for permuted gates, a bias left out, another layer's or frame's hidden state."""
    whole = mel(400)
    cut = windows(whole)
    parts = []
    for window in np.array(cut, np.float64):
        hidden = lstm_in_numpy(window, weights, CONFIG.layers)
        part = np.maximum(weights["proj.weight"] @ hidden + weights["proj.bias"], 0)
        parts.append(part / np.linalg.norm(part))
    assert np.abs(np.array(network(cut)) - np.stack(parts)).max() < 1e-6
    mean = np.mean(parts, axis=0)
    embedding = np.array(network.embed(whole))
    assert embedding.shape == (CONFIG.embedding,)
    assert np.abs(embedding - mean / np.linalg.norm(mean)).max() < 1e-6


def test_the_whole_clip_is_heard(network: VoiceEncoder) -> None:
    """30 s: what comes after the first 15 s counts as much."""
    whole = np.array(mel(3000))
    changed = whole.copy()
    changed[2500:2600] *= 20
    difference = network.embed(mx.array(whole)) - network.embed(mx.array(changed))
    assert np.abs(np.array(difference)).max() > 1e-3


def test_long_clips_in_parts_give_the_same(
    network: VoiceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mel(1000)
    at_once = network.embed(whole)
    monkeypatch.setattr(voice_encoder, "WINDOWS_AT_ONCE", 5)
    assert mx.allclose(network.embed(whole), at_once, atol=1e-6)


def test_only_what_training_needs_is_dropped(weights: dict[str, np.ndarray]) -> None:
    plan = mapped.fill(VoiceEncoder(CONFIG), RULES, weights, prefix="ve.")
    assert set(plan.dropped) == {"similarity_weight", "similarity_bias"}
