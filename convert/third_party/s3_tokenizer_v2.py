"""``mlx-community/S3TokenizerV2``: the S3 tokenizer on its own, already in MLX's layouts."""

from __future__ import annotations

from ..rules import Drop, Rule, prefixed, rule

_BLOCK: list[Rule | Drop] = [
    rule("attn.query.{leaf}"),
    rule("attn.key.weight"),
    rule("attn.value.{leaf}"),
    rule("attn.out.{leaf}"),
    rule("attn.fsmn_block.weight"),
    rule("attn_ln.{leaf}"),
    rule("mlp.layers.{j}.{leaf}"),
    rule("mlp_ln.{leaf}"),
]

RULES: list[Rule | Drop] = prefixed(
    "",
    [
        rule("encoder.conv{n}.{leaf}"),
        *prefixed("encoder.blocks.{i}.", _BLOCK, target="encoder.blocks.{i}."),
        rule("quantizer.project_down.{leaf}", "quantizer.fsq_codebook.project_down.{leaf}"),
        Drop("onnx::{path}", "a constant of the graph that the weights were taken from"),
    ],
    target="s3tokenizer.",
)
