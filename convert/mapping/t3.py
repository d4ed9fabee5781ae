"""Turbo's and Nano's T3 to ``t3.*``: GPT-2's names stay, its Conv1D weights become Linear."""

from __future__ import annotations

from .. import layout
from ..rules import Drop, Rule, prefixed, rule

_PROJECTIONS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")

TEXT_HEAD = Drop("text_head.weight", "scores text, which only training asks for")

RULES: list[Rule | Drop] = prefixed(
    "",
    [
        rule("cond_enc.spkr_enc.{leaf}"),
        rule("text_emb.weight"),
        rule("speech_emb.weight"),
        rule("speech_head.{leaf}"),
        rule("tfmr.wpe.weight"),
        rule("tfmr.ln_f.{leaf}"),
        rule("tfmr.h.{i}.ln_{n}.{leaf}"),
        *(
            item
            for name in _PROJECTIONS
            for item in (
                rule(f"tfmr.h.{{i}}.{name}.weight", move=layout.linear_in_out),
                rule(f"tfmr.h.{{i}}.{name}.bias"),
            )
        ),
        TEXT_HEAD,
        Drop(
            "tfmr.wte.weight", "GPT-2's own token table; text and speech have tables of their own"
        ),
    ],
    target="t3.",
)
