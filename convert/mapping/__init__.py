"""One table per network: which upstream tensors make which tensors of a model folder."""

from __future__ import annotations

from ..rules import Drop, Rule
from . import campplus, hift, s3_tokenizer, s3gen, t3, voice_encoder

RULES: list[Rule | Drop] = [
    *voice_encoder.RULES,
    *t3.RULES,
    *campplus.RULES,
    *s3gen.RULES,
    *hift.RULES,
    *s3_tokenizer.RULES,
]
"""Every tensor of the upstream files; their names do not collide between files."""
