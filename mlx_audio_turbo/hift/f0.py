"""The fundamental frequency of each mel frame.

Dimensions: B batch, F mel frames, M mel bins, C channels.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from .. import ops
from ..config import HiFTConfig
from ..ops.layers import Conv1d


class F0Predictor(nn.Module):
    """Convolutions with ELU, then |linear| (CosyVoice's ``ConvRNNF0Predictor``).

    Computes in float32 whatever the weights are. In half precision an F0 of 200 Hz is off by up to
    0.06 Hz, and the phase of the harmonics is the sum of F0 over all frames.
    """

    def __init__(self, config: HiFTConfig):
        super().__init__()
        inputs = [config.mels] + [config.f0_channels] * (config.f0_layers - 1)
        self.convs = [Conv1d(width, config.f0_channels, 3, padding=1) for width in inputs]
        self.linear = nn.Linear(config.f0_channels, 1)

    def __call__(self, mel: mx.array) -> mx.array:
        """``mel`` (B, F, M) to F0 (B, F) in Hz, float32."""
        x = mel.astype(mx.float32)
        for conv in self.convs:
            x = ops.elu(conv(x))
        return mx.abs(self.linear(x))[..., 0]
