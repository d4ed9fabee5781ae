"""HiFT: weight norms folded, and names that say what a tensor is."""

from __future__ import annotations

from .. import layout
from ..rules import Drop, Rule, prefixed, rule

F0_LAYERS = 16
"""More than any predictor has; a rule without a source makes nothing."""

GAIN = ".parametrizations.weight.original0"
DIRECTION = ".parametrizations.weight.original1"


def _convolution(target: str, source: str) -> list[Rule]:
    return [
        rule(
            f"{target}.weight",
            source + GAIN,
            source + DIRECTION,
            move=layout.conv1d_weight_norm,
        ),
        rule(f"{target}.bias", f"{source}.bias"),
    ]


def _stack(target: str, source: str) -> list[Rule]:
    return [
        item
        for n in (1, 2)
        for item in (
            *_convolution(f"{target}.units.{{unit}}.conv{n}", f"{source}.convs{n}.{{unit}}"),
            rule(f"{target}.units.{{unit}}.alpha{n}", f"{source}.activations{n}.{{unit}}.alpha"),
        )
    ]


RULES: list[Rule | Drop] = prefixed(
    "mel2wav.",
    [
        # The odd entries of the reference's list are activations.
        *[
            item
            for i in range(F0_LAYERS)
            for item in _convolution(f"f0.convs.{i}", f"f0_predictor.condnet.{2 * i}")
        ],
        rule("f0.linear.{leaf}", "f0_predictor.classifier.{leaf}"),
        rule("source.linear.{leaf}", "m_source.l_linear.{leaf}"),
        *_convolution("conv_in", "conv_pre"),
        *_convolution("conv_out", "conv_post"),
        rule(
            "ups.{i}.weight",
            "ups.{i}" + GAIN,
            "ups.{i}" + DIRECTION,
            move=layout.conv_transpose1d_weight_norm,
        ),
        rule("ups.{i}.bias", "ups.{i}.bias"),
        rule("source_downs.{i}.weight", "source_downs.{i}.weight", move=layout.conv1d),
        rule("source_downs.{i}.bias", "source_downs.{i}.bias"),
        *_stack("source_stacks.{i}", "source_resblocks.{i}"),
        *_stack("stacks.{i}", "resblocks.{i}"),
    ],
    target="s3gen.mel2wav.",
)
