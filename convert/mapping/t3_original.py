"""``t3_cfg.safetensors`` and the multilingual ones to ``t3.*``: every name stays."""

from __future__ import annotations

from ..rules import Drop, Rule, prefixed, rule
from .t3 import TEXT_HEAD

_LINEAR = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)

RULES: list[Rule | Drop] = prefixed(
    "",
    [
        rule("cond_enc.spkr_enc.{leaf}"),
        rule("cond_enc.emotion_adv_fc.weight"),
        rule("cond_enc.perceiver.pre_attention_query"),
        *(
            rule(f"cond_enc.perceiver.attn.{name}.{{leaf}}")
            for name in ("norm", "to_q", "to_k", "to_v", "proj_out")
        ),
        rule("text_emb.weight"),
        rule("text_pos_emb.emb.weight"),
        rule("speech_emb.weight"),
        rule("speech_pos_emb.emb.weight"),
        rule("speech_head.weight"),
        rule("tfmr.norm.weight"),
        *(rule(f"tfmr.layers.{{i}}.{name}.weight") for name in _LINEAR),
        rule("tfmr.layers.{i}.input_layernorm.weight"),
        rule("tfmr.layers.{i}.post_attention_layernorm.weight"),
        TEXT_HEAD,
        Drop("tfmr.embed_tokens.weight", "Llama's own token table, which the model never reads"),
    ],
    target="t3.",
)
