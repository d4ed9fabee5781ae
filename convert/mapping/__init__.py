"""One table per network: which upstream tensors make which tensors of a model folder."""

from __future__ import annotations

from collections.abc import Mapping

from mlx_audio_turbo.config import OriginalT3Config, T3Config

from ..rules import Drop, Rule
from . import campplus, hift, s3_tokenizer, s3gen, t3, t3_original, voice_encoder

_SHARED: list[Rule | Drop] = [
    *voice_encoder.RULES,
    *campplus.RULES,
    *s3gen.RULES,
    *hift.RULES,
    *s3_tokenizer.RULES,
]

RULES: Mapping[str, list[Rule | Drop]] = {
    T3Config.kind: [*t3.RULES, *_SHARED],
    OriginalT3Config.kind: [*t3_original.RULES, *_SHARED],
}
"""Every tensor of the upstream files, by the kind of T3; names do not collide between files."""
