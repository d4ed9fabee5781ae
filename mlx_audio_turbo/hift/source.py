"""The excitation of the vocoder: sines at the harmonics of F0, and noise (Wang et al., 2019, NSF).

Start phases and noise are arguments.

Dimensions: B batch, F mel frames, N samples = F * samples per frame, K = harmonics + 1 sines.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..config import SAMPLE_RATE, HiFTConfig

SINE_AMPLITUDE = 0.1
VOICED_NOISE = 0.003
"""Deviation of the noise in a voiced frame; in an unvoiced one, a third of the amplitude."""
VOICED_THRESHOLD = 10
"""Hz; frames above are voiced."""


def phase_offsets(
    f0: np.ndarray,
    *,
    harmonics: int,
    samples_per_frame: int,
    initial: np.ndarray | None = None,
) -> np.ndarray:
    """The phase of each sine at the start of each frame, in cycles modulo 1: (B, F, K) float32.

    Runs on the host in float64: over ten seconds a float32 sum is off by whole cycles, and MLX has
    no float64 on a GPU. F0 is constant inside a frame, so that one number per frame and sine
    suffices.

    Args:
        f0: (B, F) in Hz.
        initial: (B, K) cycles at the start of frame 0, as a window that begins earlier gives them;
            0 by default.
    """
    # Float32, as the reference rounds the advance of a sample.
    multiples = np.arange(1, harmonics + 2, dtype=np.float32)
    advance = f0.astype(np.float32)[..., None] * multiples / np.float32(SAMPLE_RATE)
    cycles = np.cumsum(advance.astype(np.float64) * samples_per_frame, axis=1)
    cycles = np.pad(cycles, [(0, 0), (1, 0), (0, 0)])[:, :-1]
    if initial is not None:
        cycles += initial[:, None]
    # A double just below 1 rounds to 1.0 in float32, the same phase as 0.
    return (cycles % 1).astype(np.float32) % 1


def harmonic_waves(
    f0: mx.array,
    offsets: mx.array,
    phases: mx.array,
    noise: mx.array,
    *,
    samples_per_frame: int,
) -> mx.array:
    """A sine per harmonic in voiced frames, and noise in all: (B, N, K).

    Args:
        f0: (B, F) in Hz.
        offsets: (B, F, K), from :func:`phase_offsets`.
        phases: (B, K) in radians, the start phases; 0 for the fundamental.
        noise: (B, N, K), standard normal.

    Raises:
        ValueError: ``noise`` does not cover the frames.
    """
    batch, frames = f0.shape
    sines = offsets.shape[-1]
    if noise.shape != (batch, frames * samples_per_frame, sines):
        raise ValueError(
            f"the noise has shape {noise.shape}; {frames} frames need "
            f"{(batch, frames * samples_per_frame, sines)}"
        )
    multiples = mx.arange(1, sines + 1, dtype=mx.float32)
    advance = f0[..., None] * multiples / SAMPLE_RATE
    # The reference's phase includes the advance of its own sample.
    ramp = mx.arange(1, samples_per_frame + 1, dtype=mx.float32)[:, None]
    cycles = offsets[:, :, None] + ramp * advance[:, :, None]
    angle = 2 * np.pi * (cycles - mx.floor(cycles)) + phases[:, None, None]
    voiced = (f0 > VOICED_THRESHOLD)[..., None, None]
    sine = mx.where(voiced, SINE_AMPLITUDE * mx.sin(angle), 0)
    deviation = mx.where(voiced, VOICED_NOISE, SINE_AMPLITUDE / 3)
    return (sine + deviation * noise.reshape(sine.shape)).reshape(noise.shape)


class HarmonicSource(nn.Module):
    """The waves of :func:`harmonic_waves`, mixed to one signal: tanh(linear)."""

    def __init__(self, config: HiFTConfig):
        super().__init__()
        self.linear = nn.Linear(config.harmonics + 1, 1)
        self._samples_per_frame = config.samples_per_frame

    def __call__(
        self, f0: mx.array, offsets: mx.array, phases: mx.array, noise: mx.array
    ) -> mx.array:
        """(B, N, 1), float32; the arguments are those of :func:`harmonic_waves`."""
        waves = harmonic_waves(
            f0, offsets, phases, noise, samples_per_frame=self._samples_per_frame
        )
        return mx.tanh(self.linear(waves))
