"""HiFT: mel to samples through an inverse short-time Fourier transform (Li et al., 2023, HiFTNet).

Dimensions: B batch, F mel frames, M mel bins, N = F * samples per frame, S = N / hop + 1 spectral
frames, T time at some rate between them, C channels.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import ops
from ..config import SAMPLE_RATE, HiFTConfig
from ..ops import lanes
from ..ops.layers import Conv1d, ConvTranspose1d
from .f0 import F0Predictor
from .residuals import ResidualStack, residuals
from .source import HarmonicSource

SLOPE = 0.1
LAST_SLOPE = 0.01
MAX_MAGNITUDE = 100.0
AUDIO_LIMIT = 0.99
FADE_SAMPLES = SAMPLE_RATE // 50


def fade_in(audio: mx.array) -> mx.array:
    """Multiply the start of ``audio`` (B, N) by 20 ms of zeros, then 20 ms of raised cosine.

    Removes what the first frame contains of the reference clip.
    """
    ramp = (np.cos(np.linspace(np.pi, 0, FADE_SAMPLES)) + 1) / 2
    gain = mx.array(np.concatenate([np.zeros(FADE_SAMPLES), ramp]).astype(np.float32))
    gain = gain[: audio.shape[1]]
    return mx.concatenate([audio[:, : gain.size] * gain, audio[:, gain.size :]], axis=1)


def _fourier(fft: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels of the transform (fft + 2, fft) and of its inverse (fft, fft + 2); window squared.

    Channels are the real parts of all bins, then the imaginary ones. The window is the periodic
    Hann. The output of the inverse has to be divided by the overlapping sum of its squares.
    """
    n, k = np.arange(fft), np.arange(fft // 2 + 1)[:, None]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / fft)
    angle = 2 * np.pi * k * n / fft
    forward = np.concatenate([np.cos(angle), -np.sin(angle)]) * window
    twice = np.where((k == 0) | (k == fft // 2), 1, 2) / fft
    inverse = np.concatenate([twice * np.cos(angle), -twice * np.sin(angle)]) * window
    return (
        forward.astype(np.float32),
        inverse.T.astype(np.float32),
        (window**2).astype(np.float32),
    )


class HiFTGenerator(nn.Module):
    """Mel to samples in three calls: the host sums the phase of the source between the first two.

    ``f0(mel)``, then ``source(f0, offsets, phases, noise)``, then ``decode(mel, source)``.
    """

    def __init__(self, config: HiFTConfig):
        super().__init__()
        self.f0 = F0Predictor(config)
        self.source = HarmonicSource(config)
        self.conv_in = Conv1d(config.mels, config.channels, 7, padding=3)
        self.ups, self.source_downs, self.source_stacks, self.stacks = [], [], [], []
        for i, (rate, kernel) in enumerate(
            zip(config.upsample_rates, config.upsample_kernels, strict=True)
        ):
            channels = config.channels >> (i + 1)
            self.ups.append(
                ConvTranspose1d(
                    2 * channels, channels, kernel, stride=rate, padding=(kernel - rate) // 2
                )
            )
            # From the rate of the spectral frames down to this level's.
            stride = math.prod(config.upsample_rates[i + 1 :])
            width, padding = (2 * stride, stride // 2) if stride > 1 else (1, 0)
            self.source_downs.append(
                Conv1d(config.fft + 2, channels, width, stride=stride, padding=padding)
            )
            self.source_stacks.append(
                ResidualStack(channels, config.source_kernels[i], config.source_dilations[i])
            )
            self.stacks += [
                ResidualStack(channels, kernel, dilations)
                for kernel, dilations in zip(
                    config.resblock_kernels, config.resblock_dilations, strict=True
                )
            ]
        last = config.channels >> len(config.upsample_rates)
        self.conv_out = Conv1d(last, config.fft + 2, 7, padding=3)
        self.config = config
        forward, inverse, squares = _fourier(config.fft)
        self._forward = mx.array(forward)[..., None]
        self._inverse = mx.array(inverse)[None]
        self._squares = mx.array(squares)[None, :, None]

    def decode(self, mel: mx.array, source: mx.array, *, compiled: bool = False) -> mx.array:
        """``mel`` (B, F, M) and ``source`` (B, N, 1) to samples (B, N), float32, within ±0.99.

        Args:
            compiled: compute in compiled kernels where they suit (:mod:`~..ops.lanes`): equal to
                rounding, at once, and without gradients.

        Raises:
            ValueError: ``source`` does not cover the frames.
        """
        frames = mel.shape[1]
        samples = frames * self.config.samples_per_frame
        if source.shape[1] != samples:
            raise ValueError(
                f"the source has {source.shape[1]} samples; {frames} frames need {samples}"
            )
        dtype = self.conv_in.weight.dtype
        spectrum = self._spectrum(source[..., 0]).astype(dtype)
        x = self.conv_in(mel.astype(dtype))
        levels, kernels = len(self.ups), len(self.config.resblock_kernels)
        form = residuals
        if compiled and lanes.suited(self.conv_in.weight, self.conv_out.weight.shape[2]):
            from . import residuals_compiled

            form = residuals_compiled.residuals
        for i in range(levels):
            x = self.ups[i](ops.leaky_relu(x, SLOPE))
            if i == levels - 1:  # the spectrum has one frame more than samples / hop
                x = mx.concatenate([x[:, 1:2], x], axis=1)
            stacks = self.stacks[i * kernels : (i + 1) * kernels]
            x = form(x, self.source_downs[i](spectrum), self.source_stacks[i], stacks)
        x = self.conv_out(ops.leaky_relu(x, LAST_SLOPE)).astype(mx.float32)
        log_magnitude, phase = mx.split(x, 2, axis=-1)
        magnitude, phase = mx.minimum(mx.exp(log_magnitude), MAX_MAGNITUDE), mx.sin(phase)
        polar = mx.concatenate([magnitude * mx.cos(phase), magnitude * mx.sin(phase)], axis=-1)
        return mx.clip(self._overlap_add(polar)[..., 0], -AUDIO_LIMIT, AUDIO_LIMIT)

    def _spectrum(self, signal: mx.array) -> mx.array:
        """Centred short-time transform of ``signal`` (B, N), reflected at both ends."""
        half = self.config.fft // 2
        x = mx.pad(signal.astype(mx.float32), [(0, 0), (half, half)], mode="reflect")
        return ops.conv1d(x[..., None], self._forward, stride=self.config.hop)

    def _overlap_add(self, polar: mx.array) -> mx.array:
        """The inverse of :meth:`_spectrum`, from (B, S, fft + 2) to (B, N, 1)."""
        stride, padding = self.config.hop, self.config.fft // 2
        ones = mx.ones((1, polar.shape[1], 1))
        overlap = ops.conv_transpose1d(ones, self._squares, stride=stride, padding=padding)
        audio = ops.conv_transpose1d(polar, self._inverse, stride=stride, padding=padding)
        return audio / overlap
