"""HiFT: mel to samples through an inverse short-time Fourier transform (Li et al., 2023, HiFTNet).

Dimensions: B batch, F mel frames, M mel bins, N = F * samples per frame, S = N / hop + 1 spectral
frames, T time at some rate between them, C channels.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .. import ops
from ..config import SAMPLE_RATE, HiFTConfig
from ..ops import parallel as lanes
from ..ops.layers import Conv1d, ConvTranspose1d
from .f0 import F0Predictor, length_mask, masked
from .source import HarmonicSource

SLOPE = 0.1
LAST_SLOPE = 0.01
MAX_MAGNITUDE = 100.0
AUDIO_LIMIT = 0.99
FADE_SAMPLES = SAMPLE_RATE // 50


def fade_in(audio: mx.array) -> mx.array:
    """20 ms of silence, then 20 ms of raised cosine, over the start of ``audio`` (B, N).

    Hides what spills over from the reference clip into the first frame.
    """
    ramp = (np.cos(np.linspace(np.pi, 0, FADE_SAMPLES)) + 1) / 2
    gain = mx.array(np.concatenate([np.zeros(FADE_SAMPLES), ramp]).astype(np.float32))
    gain = gain[: audio.shape[1]]
    return mx.concatenate([audio[:, : gain.size] * gain, audio[:, gain.size :]], axis=1)


def _fourier(fft: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels of the transform (fft + 2, fft), of its inverse (fft, fft + 2), and window squared.

    Channels are the real parts of all bins, then the imaginary ones. The window is the periodic
    Hann; the inverse still wants dividing by the overlap of its squares.
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


def _around(x: mx.array, start: int, stop: int, reach: int) -> tuple[mx.array, tuple[int, int]]:
    """Steps ``start`` to ``stop`` of ``x`` (B, T, C) and ``reach`` more on either side.

    The second result counts those that lie outside, before the start and past the end.
    """
    before, after = max(0, reach - start), max(0, stop + reach - x.shape[1])
    return x[:, start - reach + before : stop + reach - after], (before, after)


class Residual(nn.Module):
    """Snake, dilated convolution, snake, convolution, added to the input."""

    def __init__(self, channels: int, kernel: int, dilation: int):
        super().__init__()
        self._reach1, self._reach2 = dilation * (kernel // 2), kernel // 2
        self.alpha1 = mx.ones((channels,))
        self.conv1 = Conv1d(channels, channels, kernel, dilation=dilation)
        self.alpha2 = mx.ones((channels,))
        self.conv2 = Conv1d(channels, channels, kernel)

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        """(B, T, C) to (B, T, C); both sides are zero where ``mask`` is."""
        time = x.shape[1]

        def piece(start: int, stop: int) -> mx.array:
            first, last = max(0, start - self._reach2), min(time, stop + self._reach2)
            heard, outside = _around(x, first, last, self._reach1)
            y = self.conv1(ops.snake(heard, self.alpha1), padding=outside)
            y = masked(y, None if mask is None else mask[:, first:last])
            outside = self._reach2 - (start - first), self._reach2 - (last - stop)
            y = self.conv2(ops.snake(y, self.alpha2), padding=outside)
            y = masked(y, None if mask is None else mask[:, start:stop])
            return x[:, start:stop] + y

        return lanes.over_time(piece, time, x.shape[2])


class ResidualStack(nn.Module):
    """One :class:`Residual` per dilation."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]):
        super().__init__()
        self.units = [Residual(channels, kernel, dilation) for dilation in dilations]

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        """(B, T, C) to (B, T, C)."""
        for unit in self.units:
            x = unit(x, mask)
        return x


class HiFTGenerator(nn.Module):
    """Mel to samples, in three calls, because the phase of the source is summed on the host.

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
            # The source's spectral frames come down to this level's rate.
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
        self._rates = list(itertools.accumulate(config.upsample_rates, operator.mul))
        forward, inverse, squares = _fourier(config.fft)
        self._forward = mx.array(forward)[..., None]
        self._inverse = mx.array(inverse)[None]
        self._squares = mx.array(squares)[None, :, None]

    def decode(self, mel: mx.array, source: mx.array, lengths: mx.array | None = None) -> mx.array:
        """Samples (B, N) in float32 within ±0.99; zeros beyond an item's length.

        Args:
            mel: (B, F, M).
            source: (B, N, 1).
            lengths: (B,) frames of each item where some are padded at the right; each item gets
                what it would get on its own.

        Raises:
            ValueError: ``source`` does not cover the frames.
        """
        frames = mel.shape[1]
        samples = frames * self.config.samples_per_frame
        if source.shape[1] != samples:
            raise ValueError(
                f"the source has {source.shape[1]} samples where {frames} frames want {samples}"
            )
        dtype = self.conv_in.weight.dtype
        rates = self._rates
        spectral_mask = length_mask(lengths, frames, rate=rates[-1], extra=1)
        spectrum = masked(self._spectrum(source[..., 0], lengths), spectral_mask).astype(dtype)

        mask = length_mask(lengths, frames)
        x = masked(self.conv_in(masked(mel.astype(dtype), mask)), mask)
        kernels = len(self.config.resblock_kernels)
        for i, rate in enumerate(rates):
            last = i == len(rates) - 1
            mask = length_mask(lengths, frames, rate=rate, extra=int(last))
            x = self.ups[i](ops.leaky_relu(x, SLOPE))
            if last:  # the spectrum has one frame more than samples / hop
                x = mx.concatenate([x[:, 1:2], x], axis=1)
            harmonics = masked(self.source_downs[i](spectrum), mask)
            x = masked(x, mask) + self.source_stacks[i](harmonics, mask)
            stacks = self.stacks[i * kernels : (i + 1) * kernels]
            x = functools.reduce(mx.add, [stack(x, mask) for stack in stacks]) / kernels
        x = self.conv_out(ops.leaky_relu(x, LAST_SLOPE)).astype(mx.float32)
        log_magnitude, phase = mx.split(x, 2, axis=-1)
        magnitude, phase = mx.minimum(mx.exp(log_magnitude), MAX_MAGNITUDE), mx.sin(phase)
        polar = mx.concatenate([magnitude * mx.cos(phase), magnitude * mx.sin(phase)], axis=-1)

        audio = self._overlap_add(masked(polar, spectral_mask), spectral_mask)
        audio = masked(audio, length_mask(lengths, frames, rate=self.config.samples_per_frame))
        return mx.clip(audio[..., 0], -AUDIO_LIMIT, AUDIO_LIMIT)

    def _spectrum(self, signal: mx.array, lengths: mx.array | None) -> mx.array:
        """Centred short-time transform of ``signal`` (B, N), reflected at both ends."""
        batch, samples = signal.shape
        half = self.config.fft // 2
        last = mx.array([samples - 1])
        if lengths is not None:
            last = lengths * self.config.samples_per_frame - 1
        position = mx.abs(mx.arange(-half, samples + half))
        position = mx.where(position > last[:, None], 2 * last[:, None] - position, position)
        position = mx.broadcast_to(mx.maximum(position, 0), (batch, samples + 2 * half))
        reflected = mx.take_along_axis(signal.astype(mx.float32), position, axis=1)
        return ops.conv1d(reflected[..., None], self._forward, stride=self.config.hop)

    def _overlap_add(self, polar: mx.array, mask: mx.array | None) -> mx.array:
        """The inverse of :meth:`_spectrum`, from (B, S, fft + 2) to (B, N, 1)."""
        stride, padding = self.config.hop, self.config.fft // 2
        frames = mx.ones((1, polar.shape[1], 1)) if mask is None else mask
        overlap = ops.conv_transpose1d(frames, self._squares, stride=stride, padding=padding)
        audio = ops.conv_transpose1d(polar, self._inverse, stride=stride, padding=padding)
        # The floor only ever acts beyond an item's length, where there is nothing to divide.
        return audio / mx.maximum(overlap, 1e-8)
