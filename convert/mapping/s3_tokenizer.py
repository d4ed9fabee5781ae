"""The S3 tokenizer inside ``s3gen_meanflow.safetensors``."""

from __future__ import annotations

from .. import layout
from ..rules import Drop, Rule, prefixed, rule

_BLOCK: list[Rule | Drop] = [
    rule("attn.query.{leaf}"),
    rule("attn.key.weight"),
    rule("attn.value.{leaf}"),
    rule("attn.out.{leaf}"),
    rule("attn.fsmn_block.weight", move=layout.conv1d),
    rule("attn_ln.{leaf}"),
    rule("mlp.layers.{j}.{leaf}", "mlp.{j}.{leaf}"),
    rule("mlp_ln.{leaf}"),
]

RULES: list[Rule | Drop] = prefixed(
    "tokenizer.",
    [
        rule("encoder.conv{n}.weight", move=layout.conv1d),
        rule("encoder.conv{n}.bias"),
        *prefixed("encoder.blocks.{i}.", _BLOCK, target="encoder.blocks.{i}."),
        rule("quantizer.project_down.{leaf}", "quantizer._codebook.project_down.{leaf}"),
        Drop("_mel_filters", "a Slaney filter bank, computed by our front end"),
        Drop("window", "a Hann window, computed by our front end"),
    ],
    target="s3tokenizer.",
)
