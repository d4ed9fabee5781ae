"""Layout A: ``mlx-community/chatterbox-turbo-{fp16,8bit,6bit,4bit}``, as mlx-audio writes it."""

from __future__ import annotations

from ..mapping import campplus
from ..rules import Drop, Rule, prefixed, rule
from . import mlx_audio

_LAYERS = 3

VOICE_ENCODER: list[Rule | Drop] = prefixed(
    "ve.",
    [
        # Its LSTMs count from 1; gates are i, f, g, o, as ours.
        *(
            rule(f"lstm.{i}.{name}", f"lstm{i + 1}.{name}")
            for i in range(_LAYERS)
            for name in ("Wx", "Wh", "bias")
        ),
        rule("proj.{leaf}"),
        Drop("similarity_weight", "scales the similarity of two speakers in training"),
        Drop("similarity_bias", "shifts the similarity of two speakers in training"),
    ],
    target="ve.",
)

_OTHERS: list[Rule | Drop] = [
    *VOICE_ENCODER,
    *mlx_audio.T3,
    *mlx_audio.FLOW,
    *mlx_audio.HIFT,
    *mlx_audio.STRAYS,
]

RULES: list[Rule | Drop] = [*_OTHERS, *mlx_audio.CAMPPLUS]


def is_upstream_campplus(name: str) -> bool:
    """Whether a tensor is named as only upstream's own CAM++ names its."""
    return name.startswith("s3gen.speaker_encoder.xvector.")


RULES_UPSTREAM_CAMPPLUS: list[Rule | Drop] = [*_OTHERS, *prefixed("s3gen.", campplus.RULES)]
"""For a file that carries CAM++ as upstream wrote it: mlx-audio renames it when loading."""
