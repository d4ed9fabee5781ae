"""Upstream's ``flow.*`` to ``s3gen.flow.*``: tokens to mel."""

from __future__ import annotations

from .. import layout
from ..rules import Drop, Rule, prefixed, rule

KEY_BIAS = "adds the same to a query's score of every key, which softmax takes out again"


def encoder_block(source: str, target: str) -> list[Rule | Drop]:
    attention: list[Rule | Drop] = [
        rule(f"attention.{name}.{{leaf}}", f"self_attn.linear_{name}.{{leaf}}")
        for name in ("q", "v", "out", "pos")
    ]
    attention += [
        rule("attention.k.weight", "self_attn.linear_k.weight"),
        Drop("self_attn.linear_k.bias", KEY_BIAS),
    ]
    return prefixed(
        source,
        [
            *attention,
            rule("attention.bias_u", "self_attn.pos_bias_u"),
            rule("attention.bias_v", "self_attn.pos_bias_v"),
            rule("attention_norm.{leaf}", "norm_mha.{leaf}"),
            rule("feed_forward_norm.{leaf}", "norm_ff.{leaf}"),
            rule("feed_forward.linear1.{leaf}", "feed_forward.w_1.{leaf}"),
            rule("feed_forward.linear2.{leaf}", "feed_forward.w_2.{leaf}"),
        ],
        target=target,
    )


def _conv(target: str, source: str) -> list[Rule | Drop]:
    return [
        rule(f"{target}.weight", f"{source}.weight", move=layout.conv1d),
        rule(f"{target}.bias", f"{source}.bias"),
    ]


def _pointwise(target: str, source: str) -> list[Rule | Drop]:
    return [
        rule(f"{target}.weight", f"{source}.weight", move=layout.pointwise),
        rule(f"{target}.bias", f"{source}.bias"),
    ]


def _causal_block(target: str, source: str) -> list[Rule | Drop]:
    return [
        *_conv(f"{target}.conv", f"{source}.block.0"),
        rule(f"{target}.norm.{{leaf}}", f"{source}.block.2.{{leaf}}"),
    ]


def _level(source: str, target: str) -> list[Rule | Drop]:
    transformer = prefixed(
        "1.{m}.",
        [
            rule("attention_norm.{leaf}", "norm1.{leaf}"),
            rule("attention.q.weight", "attn1.to_q.weight"),
            rule("attention.k.weight", "attn1.to_k.weight"),
            rule("attention.v.weight", "attn1.to_v.weight"),
            rule("attention.out.{leaf}", "attn1.to_out.0.{leaf}"),
            rule("feed_forward_norm.{leaf}", "norm3.{leaf}"),
            rule("feed_forward.linear1.{leaf}", "ff.net.0.proj.{leaf}"),
            rule("feed_forward.linear2.{leaf}", "ff.net.2.{leaf}"),
        ],
        target="blocks.{m}.",
    )
    resnet = [
        *_causal_block("resnet.block1", "0.block1"),
        rule("resnet.time.{leaf}", "0.mlp.1.{leaf}"),
        *_causal_block("resnet.block2", "0.block2"),
        *_pointwise("resnet.residual", "0.res_conv"),
    ]
    return prefixed(source, [*resnet, *transformer], target=target)


ENCODER: list[Rule | Drop] = [
    rule("embed.linear.{leaf}", "embed.out.0.{leaf}"),
    rule("embed.norm.{leaf}", "embed.out.1.{leaf}"),
    *_conv("lookahead.conv1", "pre_lookahead_layer.conv1"),
    *_conv("lookahead.conv2", "pre_lookahead_layer.conv2"),
    *encoder_block("encoders.{n}.", "blocks.{n}."),
    *_conv("upsample", "up_layer.conv"),
    rule("up_embed.linear.{leaf}", "up_embed.out.0.{leaf}"),
    rule("up_embed.norm.{leaf}", "up_embed.out.1.{leaf}"),
    *encoder_block("up_encoders.{n}.", "up_blocks.{n}."),
    rule("norm.{leaf}", "after_norm.{leaf}"),
]

ESTIMATOR: list[Rule | Drop] = [
    rule("time_mlp.linear1.{leaf}", "time_mlp.linear_1.{leaf}"),
    rule("time_mlp.linear2.{leaf}", "time_mlp.linear_2.{leaf}"),
    rule("time_mixer.weight", "time_embed_mixer.weight"),
    *_level("down_blocks.0.", "down."),
    *_conv("down_conv", "down_blocks.0.2"),
    *_level("mid_blocks.{n}.", "mid.{n}."),
    *_level("up_blocks.0.", "up."),
    *_conv("up_conv", "up_blocks.0.2"),
    *_causal_block("final_block", "final_block"),
    *_pointwise("final_proj", "final_proj"),
]

RULES: list[Rule | Drop] = prefixed(
    "flow.",
    [
        rule("input_embedding.weight"),
        rule("speaker_projection.{leaf}", "spk_embed_affine_layer.{leaf}"),
        *prefixed("encoder.", ENCODER, target="encoder."),
        rule("encoder_proj.{leaf}"),
        *prefixed("decoder.estimator.", ESTIMATOR, target="estimator."),
    ],
    target="s3gen.flow.",
)
