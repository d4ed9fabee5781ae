"""Layout B: ``mlx-community/Chatterbox-Turbo-TTS-{fp16,8bit,4bit}``, by mlx-audio-plus."""

from __future__ import annotations

from ..rules import Drop, Rule
from . import mlx_audio

SUSPECT = "was written with the gates of its LSTMs in another order than MLX reads them"

RULES: list[Rule | Drop] = [
    Drop("ve.{path}", SUSPECT),
    *mlx_audio.T3,
    *mlx_audio.FLOW,
    *mlx_audio.HIFT,
    *mlx_audio.CAMPPLUS,
    *mlx_audio.STRAYS,
]
