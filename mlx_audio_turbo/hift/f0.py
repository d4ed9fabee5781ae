"""The fundamental frequency of each mel frame.

Dimensions: B batch, F mel frames, M mel bins, C channels.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .. import ops
from ..config import HiFTConfig
from ..ops.layers import Conv1d


def length_mask(
    lengths: mx.array | None, frames: int, *, rate: int = 1, extra: int = 0
) -> mx.array | None:
    """1 inside and 0 beyond ``lengths`` (B,) frames, at ``rate`` steps a frame and ``extra`` ones.

    Gives (B, frames * rate + extra, 1), or None where no item is padded.
    """
    if lengths is None:
        return None
    inside = mx.arange(frames * rate + extra) < lengths[:, None] * rate + extra
    return inside[..., None].astype(mx.float32)


def masked(x: mx.array, mask: mx.array | None) -> mx.array:
    """Zeros beyond each item's length: what a convolution's padding shows an item on its own."""
    return x if mask is None else x * mask.astype(x.dtype)


class F0Predictor(nn.Module):
    """Convolutions with ELU, then |linear| (CosyVoice's ``ConvRNNF0Predictor``).

    Computes in float32 whatever the weights are: an F0 of 200 Hz in half precision is off by up
    to 0.06 Hz, and the phase of the harmonics is the sum over all frames.
    """

    def __init__(self, config: HiFTConfig):
        super().__init__()
        inputs = [config.mels] + [config.f0_channels] * (config.f0_layers - 1)
        self.convs = [Conv1d(width, config.f0_channels, 3, padding=1) for width in inputs]
        self.linear = nn.Linear(config.f0_channels, 1)

    def __call__(self, mel: mx.array, lengths: mx.array | None = None) -> mx.array:
        """``mel`` (B, F, M) to F0 (B, F) in Hz, float32; 0 beyond ``lengths`` (B,) frames."""
        mask = length_mask(lengths, mel.shape[1])
        x = masked(mel.astype(mx.float32), mask)
        for conv in self.convs:
            x = masked(ops.elu(conv(x)), mask)
        return masked(mx.abs(self.linear(x)), mask)[..., 0]
