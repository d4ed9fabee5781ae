"""CAM++: the speaker embedding that S3Gen is conditioned on (Wang et al., 2023).

A small 2-D residual head, a densely connected time-delay network whose layers are gated by their
context, and pooling over time. Batch norms are scales and shifts (see ``layers.ScaleShift``).

Dimensions: B batch, T time, F frequency, M mel bins, C channels, S segments, E embedding width.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from ..config import CAMPlusConfig
from ..ops import layers
from ..ops.layers import ScaleShift


def _conv2d(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> layers.Conv2d:
    """A convolution of (B, F, T, C) that keeps T and divides F by ``stride``."""
    return layers.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions of (B, F, T, C) beside a shortcut."""

    def __init__(self, channels: int, *, stride: int):
        super().__init__()
        self.conv1 = _conv2d(channels, channels, 3, stride=stride)
        self.norm1 = ScaleShift(channels)
        self.conv2 = _conv2d(channels, channels, 3)
        self.norm2 = ScaleShift(channels)
        if stride > 1:
            self.shortcut = _conv2d(channels, channels, 1, stride=stride)
            self.shortcut_norm = ScaleShift(channels)

    def __call__(self, x: mx.array) -> mx.array:
        y = nn.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if "shortcut" in self:
            x = self.shortcut_norm(self.shortcut(x))
        return nn.relu(x + y)


class Head(nn.Module):
    """The fbank as an image: each stage, and the last convolution, halves its frequencies."""

    def __init__(self, config: CAMPlusConfig):
        super().__init__()
        channels = config.head_channels
        self.conv1 = _conv2d(1, channels, 3)
        self.norm1 = ScaleShift(channels)
        self._stages = [f"stage{n + 1}" for n in range(len(config.head_blocks))]
        for name, blocks in zip(self._stages, config.head_blocks, strict=True):
            self[name] = [
                ResidualBlock(channels, stride=2 if block == 0 else 1) for block in range(blocks)
            ]
        self.conv2 = _conv2d(channels, channels, 3, stride=2)
        self.norm2 = ScaleShift(channels)

    def __call__(self, fbank: mx.array) -> mx.array:
        x = fbank.swapaxes(1, 2)[..., None]
        x = nn.relu(self.norm1(self.conv1(x)))
        for name in self._stages:
            for block in self[name]:
                x = block(x)
        x = nn.relu(self.norm2(self.conv2(x)))
        # What follows was trained on channels with their frequencies inside: c * F + f.
        return x.transpose(0, 2, 3, 1).flatten(2)


def segment_sums(x: mx.array, segment: int) -> mx.array:
    """Sums (B, S, C) over each ``segment`` frames of ``x`` (B, T, C); the last may be shorter.

    Sums over all time go through here too: sums of sums keep a digit more in float32.
    """
    batch, time, channels = x.shape
    count = -(-time // segment)
    padded = mx.pad(x, [(0, 0), (0, count * segment - time), (0, 0)])
    return padded.reshape(batch, count, segment, channels).sum(axis=2)


def pool_context(x: mx.array, segment: int) -> mx.array:
    """Mean over all of ``x`` (B, T, C) plus, for each frame, the mean over its own segment."""
    time = x.shape[1]
    sums = segment_sums(x, segment)
    lengths = mx.minimum(segment, time - segment * mx.arange(sums.shape[1])).astype(x.dtype)
    pooled = sums.sum(axis=1, keepdims=True) / time + sums / lengths[:, None]
    return mx.repeat(pooled, segment, axis=1)[:, :time]


def pool_statistics(x: mx.array, segment: int) -> mx.array:
    """Mean and unbiased standard deviation over the time of ``x`` (B, T, C); gives (B, 2 C)."""
    time = x.shape[1]
    mean = segment_sums(x, segment).sum(axis=1, keepdims=True) / time
    squares = segment_sums(mx.square(x - mean), segment).sum(axis=1, keepdims=True)
    return mx.concatenate([mean, mx.sqrt(squares / (time - 1))], axis=-1)[:, 0]


class DenseLayer(nn.Module):
    """A bottleneck, then a local convolution gated by segment and utterance: the paper's CAM."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bottleneck: int,
        *,
        kernel: int,
        dilation: int,
        segment: int,
    ):
        super().__init__()
        self.norm1 = ScaleShift(inputs)
        self.linear = nn.Linear(inputs, bottleneck, bias=False)
        self.norm2 = ScaleShift(bottleneck)
        self.local = layers.Conv1d(
            bottleneck,
            outputs,
            kernel,
            padding=(kernel - 1) // 2 * dilation,
            dilation=dilation,
            bias=False,
        )
        self.squeeze = nn.Linear(bottleneck, bottleneck // 2)
        self.gate = nn.Linear(bottleneck // 2, outputs)
        self._segment = segment

    def __call__(self, x: mx.array) -> mx.array:
        x = self.linear(nn.relu(self.norm1(x)))
        x = nn.relu(self.norm2(x))
        context = nn.relu(self.squeeze(pool_context(x, self._segment)))
        return self.local(x) * mx.sigmoid(self.gate(context))


class DenseBlock(nn.Module):
    """Layers that each see the input and all earlier layers' outputs, concatenated."""

    def __init__(self, inputs: int, config: CAMPlusConfig, index: int):
        super().__init__()
        self._layers = [f"layer{n + 1}" for n in range(config.block_layers[index])]
        for n, name in enumerate(self._layers):
            self[name] = DenseLayer(
                inputs + n * config.growth,
                config.growth,
                config.bottleneck * config.growth,
                kernel=config.block_kernels[index],
                dilation=config.block_dilations[index],
                segment=config.segment,
            )

    def __call__(self, x: mx.array) -> mx.array:
        for name in self._layers:
            x = mx.concatenate([x, self[name](x)], axis=-1)
        return x


class Transition(nn.Module):
    """Halves the channels after a dense block."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = ScaleShift(channels)
        self.linear = nn.Linear(channels, channels // 2, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.linear(nn.relu(self.norm(x)))


class CAMPlus(nn.Module):
    """Kaldi filter banks less their mean over time, to a speaker embedding."""

    def __init__(self, config: CAMPlusConfig):
        super().__init__()
        self.head = Head(config)
        frequencies = config.mels // 2 ** (len(config.head_blocks) + 1)
        channels = config.initial_channels
        self.tdnn = layers.Conv1d(
            config.head_channels * frequencies, channels, 5, stride=2, padding=2, bias=False
        )
        self.tdnn_norm = ScaleShift(channels)
        self._depth, self._segment = len(config.block_layers), config.segment
        for n, count in enumerate(config.block_layers):
            self[f"block{n + 1}"] = DenseBlock(channels, config, n)
            channels += count * config.growth
            self[f"transit{n + 1}"] = Transition(channels)
            channels //= 2
        self.out_norm = ScaleShift(channels)
        self.dense = nn.Linear(2 * channels, config.embedding, bias=False)
        self.dense_norm = ScaleShift(config.embedding)

    def __call__(self, fbank: mx.array) -> mx.array:
        """Embeddings (B, E), not normalised, of ``fbank`` (B, T, M), 100 frames per second."""
        x = self.head(fbank)
        x = nn.relu(self.tdnn_norm(self.tdnn(x)))
        for n in range(1, self._depth + 1):
            x = self[f"transit{n}"](self[f"block{n}"](x))
        x = pool_statistics(nn.relu(self.out_norm(x)), self._segment)
        return self.dense_norm(self.dense(x))
