"""The VoiceEncoder of ``ve.safetensors``; gate order i, f, g, o on both sides."""

from __future__ import annotations

from .. import layout
from ..rules import Drop, Rule, prefixed, rule

RULES: list[Rule | Drop] = prefixed(
    "",
    [
        rule("lstm.{i}.Wx", "lstm.weight_ih_l{i}"),
        rule("lstm.{i}.Wh", "lstm.weight_hh_l{i}"),
        rule("lstm.{i}.bias", "lstm.bias_ih_l{i}", "lstm.bias_hh_l{i}", move=layout.total),
        rule("proj.{leaf}"),
        Drop("similarity_weight", "scales the similarity of two speakers in training"),
        Drop("similarity_bias", "shifts the similarity of two speakers in training"),
    ],
    target="ve.",
)
