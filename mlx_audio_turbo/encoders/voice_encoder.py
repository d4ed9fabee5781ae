"""VoiceEncoder: the speaker embedding that T3 is conditioned on.

A stacked LSTM over overlapping windows of a mel spectrogram (GE2E: Wan et al., 2018; the windows
as in CorentinJ/Real-Time-Voice-Cloning).

Dimensions: N windows, F mel frames, M mel bins, E embedding width.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..config import VoiceEncoderConfig

FRAMES_PER_SECOND = 100
WINDOWS_PER_SECOND = 1.3
WINDOW = 160
"""Frames in a window of the LSTM."""
STEP = round(FRAMES_PER_SECOND / WINDOWS_PER_SECOND)
"""Frames between the starts of neighbouring windows."""
MIN_COVERAGE = 0.8
"""Least share of a last window; a shorter one is left out, a longer one padded with zeros."""
WINDOWS_AT_ONCE = 64
"""Bounds the memory that a long clip takes: 64 windows stand for 50 s."""


def windows(mel: mx.array) -> mx.array:
    """Cut ``mel`` (F, M), of any length, into overlapping windows (N, 160, M).

    Only frames of a last window that would be covered too little are left out; a mel shorter than
    one window is padded to one.
    """
    frames = mel.shape[0]
    count, rest = divmod(max(frames - WINDOW + STEP, 0), STEP)
    if count == 0 or (rest + WINDOW - STEP) / WINDOW >= MIN_COVERAGE:
        count += 1
    missing = WINDOW + STEP * (count - 1) - frames
    if missing > 0:
        mel = mx.pad(mel, [(0, missing), (0, 0)])
    return mel[STEP * mx.arange(count)[:, None] + mx.arange(WINDOW)]


class VoiceEncoder(nn.Module):
    """LSTM speaker encoder."""

    def __init__(self, config: VoiceEncoderConfig):
        super().__init__()
        inputs = [config.mels] + [config.hidden] * (config.layers - 1)
        self.lstm = [nn.LSTM(width, config.hidden) for width in inputs]
        self.proj = nn.Linear(config.hidden, config.embedding)

    def __call__(self, windows: mx.array) -> mx.array:
        """Embeddings (N, E) of length 1 and not negative, of ``windows`` (N, 160, M)."""
        x = windows
        for layer in self.lstm:
            x, _ = layer(x)
        return _unit(nn.relu(self.proj(x[:, -1])))

    def embed(self, mel: mx.array) -> mx.array:
        """Speaker embedding (E,) of length 1 of a clip's whole ``mel`` (F, M): power, no log."""
        cut = windows(mel)
        parts = [
            self(cut[start : start + WINDOWS_AT_ONCE])
            for start in range(0, cut.shape[0], WINDOWS_AT_ONCE)
        ]
        return _unit(mx.concatenate(parts).mean(axis=0))


def _unit(x: mx.array) -> mx.array:
    return x / mx.linalg.norm(x, axis=-1, keepdims=True)
