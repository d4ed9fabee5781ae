"""The module names that both kinds of published MLX folder share, layouts A and B.

Both hold the parameters of mlx-audio's own modules: convolutions as (out, kernel, in), transposed
ones too, weight norms folded, batch norms with their running statistics, GPT-2 as Linear.
"""

from __future__ import annotations

from .. import layout
from ..mapping.campplus import batch_norm
from ..mapping.s3gen import encoder_block
from ..rules import Drop, Rule, prefixed, rule

MOST = {"blocks": 3, "layers": 24}
"""As many as any CAM++ has; a rule without a source makes nothing."""


def _pointwise(target: str, source: str) -> list[Rule | Drop]:
    return [
        rule(f"{target}.weight", f"{source}.weight", move=layout.mlx_pointwise),
        rule(f"{target}.bias", f"{source}.bias"),
    ]


T3: list[Rule | Drop] = prefixed(
    "t3.",
    [
        rule("cond_enc.spkr_enc.{leaf}"),
        rule("text_emb.weight"),
        rule("speech_emb.weight"),
        rule("speech_head.{leaf}"),
        rule("tfmr.wpe.weight"),
        rule("tfmr.ln_f.{leaf}"),
        rule("tfmr.h.{i}.ln_{n}.{leaf}"),
        rule("tfmr.h.{i}.attn.c_attn.{leaf}"),
        rule("tfmr.h.{i}.attn.c_proj.{leaf}"),
        rule("tfmr.h.{i}.mlp.c_fc.{leaf}"),
        rule("tfmr.h.{i}.mlp.c_proj.{leaf}"),
        Drop("text_head.weight", "scores text, which only training asks for"),
        Drop(
            "tfmr.wte.weight", "GPT-2's own token table; text and speech have tables of their own"
        ),
    ],
    target="t3.",
)


def _causal_block(target: str, source: str) -> list[Rule | Drop]:
    return [
        rule(f"{target}.conv.{{leaf}}", f"{source}.block.0.conv.conv.{{leaf}}"),
        rule(f"{target}.norm.{{leaf}}", f"{source}.block.1.{{leaf}}"),
    ]


def _level(source: str, target: str) -> list[Rule | Drop]:
    transformer = prefixed(
        "transformer_blocks.{m}.",
        [
            rule("attention_norm.{leaf}", "norm1.{leaf}"),
            rule("attention.q.weight", "attn1.to_q.weight"),
            rule("attention.k.weight", "attn1.to_k.weight"),
            rule("attention.v.weight", "attn1.to_v.weight"),
            rule("attention.out.{leaf}", "attn1.to_out.0.{leaf}"),
            rule("feed_forward_norm.{leaf}", "norm3.{leaf}"),
            rule("feed_forward.linear1.{leaf}", "ff.net.0.proj.{leaf}"),
            # The reference's list has a dropout between the two.
            rule("feed_forward.linear2.{leaf}", "ff.net.1.{leaf}"),
        ],
        target="blocks.{m}.",
    )
    resnet = [
        *_causal_block("resnet.block1", "resnet.block1"),
        rule("resnet.time.{leaf}", "resnet.mlp.0.{leaf}"),
        *_causal_block("resnet.block2", "resnet.block2"),
        *_pointwise("resnet.residual", "resnet.res_conv.conv"),
    ]
    return prefixed(source, [*resnet, *transformer], target=target)


_ENCODER: list[Rule | Drop] = [
    rule("embed.linear.{leaf}"),
    rule("embed.norm.{leaf}"),
    rule("lookahead.conv{n}.{leaf}", "pre_lookahead_layer.conv{n}.{leaf}"),
    *encoder_block("encoders.{n}.", "blocks.{n}."),
    rule("upsample.{leaf}", "up_layer.conv.{leaf}"),
    rule("up_embed.linear.{leaf}"),
    rule("up_embed.norm.{leaf}"),
    *encoder_block("up_encoders.{n}.", "up_blocks.{n}."),
    rule("norm.{leaf}", "after_norm.{leaf}"),
    *(
        Drop(f"{embed}.pos_enc.pe", "a table of sines, computed here")
        for embed in ("embed", "up_embed")
    ),
]

_ESTIMATOR: list[Rule | Drop] = [
    rule("time_mlp.linear{n}.{leaf}", "time_mlp.linear_{n}.{leaf}"),
    rule("time_mixer.weight", "time_embed_mixer.weight"),
    *_level("down_blocks.0.", "down."),
    rule("down_conv.{leaf}", "down_blocks.0.downsample.conv.conv.{leaf}"),
    *_level("mid_blocks.{n}.", "mid.{n}."),
    *_level("up_blocks.0.", "up."),
    rule("up_conv.{leaf}", "up_blocks.0.upsample.conv.conv.{leaf}"),
    *_causal_block("final_block", "final_block"),
    *_pointwise("final_proj", "final_proj.conv"),
]

FLOW: list[Rule | Drop] = prefixed(
    "s3gen.",
    [
        rule("input_embedding.weight"),
        rule("speaker_projection.{leaf}", "spk_embed_affine_layer.{leaf}"),
        *prefixed("encoder.", _ENCODER, target="encoder."),
        rule("encoder_proj.{leaf}"),
        *prefixed("decoder.estimator.", _ESTIMATOR, target="estimator."),
    ],
    target="s3gen.flow.",
)


def _stack(target: str, source: str) -> list[Rule | Drop]:
    return [
        item
        for n in (1, 2)
        for item in (
            rule(
                f"{target}.units.{{unit}}.conv{n}.{{leaf}}",
                f"{source}.convs{n}.{{unit}}.conv.{{leaf}}",
            ),
            rule(f"{target}.units.{{unit}}.alpha{n}", f"{source}.activations{n}.{{unit}}.alpha"),
        )
    ]


HIFT: list[Rule | Drop] = prefixed(
    "s3gen.mel2wav.",
    [
        rule("f0.convs.{i}.{leaf}", "f0_predictor.condnet.{i}.conv.{leaf}"),
        rule("f0.linear.{leaf}", "f0_predictor.classifier.{leaf}"),
        rule("source.linear.{leaf}", "m_source.l_linear.{leaf}"),
        rule("conv_in.{leaf}", "conv_pre.conv.{leaf}"),
        rule("conv_out.{leaf}", "conv_post.conv.{leaf}"),
        rule("ups.{i}.{leaf}", "ups.{i}.conv.{leaf}"),
        rule("source_downs.{i}.{leaf}", "source_downs.{i}.conv.{leaf}"),
        *_stack("source_stacks.{i}", "source_resblocks.{i}"),
        *_stack("stacks.{i}", "resblocks.{i}"),
        Drop("stft_window", "a Hann window, computed here"),
    ],
    target="s3gen.mel2wav.",
)


def _dense_layer(target: str, source: str) -> list[Rule | Drop]:
    return [
        *batch_norm(f"{target}.norm1", f"{source}.bn1"),
        *batch_norm(f"{target}.norm2", f"{source}.bn2"),
        rule(f"{target}.linear.weight", f"{source}.linear1.weight", move=layout.mlx_pointwise),
        rule(f"{target}.local.weight", f"{source}.cam_layer.linear_local.weight"),
        *_pointwise(f"{target}.squeeze", f"{source}.cam_layer.linear1"),
        *_pointwise(f"{target}.gate", f"{source}.cam_layer.linear2"),
    ]


def _dense_block(number: int) -> list[Rule | Drop]:
    layers = [
        item
        for i in range(MOST["layers"])
        for item in _dense_layer(f"block{number + 1}.layer{i + 1}", f"blocks.{number}.layers.{i}")
    ]
    transit = f"transit{number + 1}"
    return [
        *layers,
        *batch_norm(f"{transit}.norm", f"transits.{number}.bn"),
        rule(
            f"{transit}.linear.weight",
            f"transits.{number}.linear.weight",
            move=layout.mlx_pointwise,
        ),
    ]


CAMPPLUS: list[Rule | Drop] = prefixed(
    "s3gen.speaker_encoder.",
    [
        rule("head.conv{n}.weight"),
        *batch_norm("head.norm{n}", "head.bn{n}"),
        *prefixed(
            "head.layer{s}.{i}.",
            [
                rule("conv{n}.weight"),
                *batch_norm("norm{n}", "bn{n}"),
                rule("shortcut.weight", "shortcut_conv.weight"),
                *batch_norm("shortcut_norm", "shortcut_bn"),
            ],
            target="head.stage{s}.{i}.",
        ),
        rule("tdnn.weight", "tdnn.linear.weight"),
        *batch_norm("tdnn_norm", "tdnn.bn"),
        *(item for number in range(MOST["blocks"]) for item in _dense_block(number)),
        *batch_norm("out_norm", "out_bn"),
        rule("dense.weight", "dense.linear.weight", move=layout.mlx_pointwise),
        *batch_norm("dense_norm", "dense.bn", affine=False),
    ],
    target="s3gen.speaker_encoder.",
)

STRAYS: list[Rule | Drop] = [
    Drop("s3gen.trim_fade", "the fade of the first 40 ms, computed here"),
    Drop("s3gen.tokenizer.{path}", "an S3 tokenizer that no loader of this layout reads"),
    Drop("gen.{path}", "the built-in voice, of unknown origin"),
    Drop("t3.speaker_emb", "the built-in voice, of unknown origin"),
    Drop("t3.cond_prompt_speech_tokens", "the built-in voice, of unknown origin"),
    Drop("t3.emotion_adv", "the built-in voice, of unknown origin"),
]
"""What such a file may hold besides the weights: its writer merged other files into it."""
