"""Layouts A and B: the parameters of mlx-audio's own modules, in terms of the upstream tables.

Both hold convolutions as (out, kernel, in), transposed ones too, weight norms folded, batch norms
with their running statistics, and GPT-2 as Linear. So the rules are those of ``mapping``, with
other names and without the moves that are done already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from .. import layout
from ..mapping import campplus, hift, s3gen, t3
from ..rules import Drop, Rule, prefixed, rule

_CAMPPLUS_BLOCKS, _CAMPPLUS_LAYERS, _LSTM_LAYERS = 3, 24, 3
"""As many as any of these networks has; a rule without a source makes nothing."""

_DONE: Mapping[Callable[..., object], Callable[..., layout.Array]] = {
    layout.linear_in_out: layout.copy,
    layout.conv1d: layout.copy,
    layout.conv2d: layout.copy,
    layout.conv1d_weight_norm: layout.copy,
    layout.conv_transpose1d_weight_norm: layout.copy,
    layout.pointwise: layout.mlx_pointwise,
}
"""What is left to do of a move."""


def _less(match: re.Match[str]) -> str:
    return str(int(match[1]) - 1)


_RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^flow\.", ""),
    # a folded weight norm
    (re.escape(hift.DIRECTION), ".weight"),
    # CAM++
    (r"\.xvector\.", "."),
    (r"\.block(\d+)\.tdnnd(\d+)\.", lambda m: f".blocks.{int(m[1]) - 1}.layers.{int(m[2]) - 1}."),
    (r"\.transit(\d+)\.", lambda m: f".transits.{_less(m)}."),
    (r"nonlinear(\d?|\{n\})\.batchnorm", r"bn\1"),
    (r"\.shortcut\.0\.", ".shortcut_conv."),
    (r"\.shortcut\.1\.", ".shortcut_bn."),
    # the estimator; its lists have no dropout between two layers
    (r"_blocks\.(\d+|\{n\})\.0\.", r"_blocks.\1.resnet."),
    (r"_blocks\.(\d+|\{n\})\.1\.(\{m\})\.", r"_blocks.\1.transformer_blocks.\2."),
    (r"down_blocks\.0\.2\.", "down_blocks.0.downsample.conv.conv."),
    (r"up_blocks\.0\.2\.", "up_blocks.0.upsample.conv.conv."),
    (r"block([12]?)\.block\.0\.", r"block\1.block.0.conv.conv."),
    (r"block([12]?)\.block\.2\.", r"block\1.block.1."),
    (r"resnet\.mlp\.1\.", "resnet.mlp.0."),
    (r"\.ff\.net\.2\.", ".ff.net.1."),
    # the encoder
    (r"embed\.out\.0\.", "embed.linear."),
    (r"embed\.out\.1\.", "embed.norm."),
    # HiFT
    (r"condnet\.(\d+)\.", lambda m: f"condnet.{int(m[1]) // 2}.conv."),
    (
        r"(res_conv|final_proj|conv_pre|conv_post|ups\.\{i\}|source_downs\.\{i\}"
        r"|convs[12]\.\{unit\})\.(weight|bias|\{leaf\})$",
        r"\1.conv.\2",
    ),
]


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _translated(rules: Iterable[Rule | Drop]) -> list[Rule | Drop]:
    out: list[Rule | Drop] = []
    for item in rules:
        if isinstance(item, Drop):
            out.append(replace(item, source=_renamed(item.source)))
            continue
        # of a weight norm's two tensors, the second has the shape of the folded one
        folded = item.sources[-1:] if item.sources[0].endswith(hift.GAIN) else item.sources
        sources = tuple(_renamed(source) for source in folded)
        out.append(replace(item, sources=sources, move=_DONE.get(item.move, item.move)))
    return out


def _numbered(rules: Iterable[Rule | Drop]) -> Iterator[Rule | Drop]:
    """The rules of CAM++'s dense blocks with their numbers in place of ``{b}`` and ``{i}``.

    mlx-audio counts from 0 and upstream from 1.
    """
    for item in rules:
        source = item.source if isinstance(item, Drop) else item.sources[0]
        layers = range(1, _CAMPPLUS_LAYERS + 1) if ".tdnnd{i}." in source else (None,)
        blocks = range(1, _CAMPPLUS_BLOCKS + 1) if "{b}" in source else (None,)
        for b in blocks:
            for i in layers:
                yield _with_numbers(item, b, i)


def _with_numbers(item: Rule | Drop, b: int | None, i: int | None) -> Rule | Drop:
    def put(name: str) -> str:
        name = name if b is None else name.replace("{b}", str(b))
        return name if i is None else name.replace("{i}", str(i))

    if isinstance(item, Drop):
        return replace(item, source=put(item.source))
    return replace(item, target=put(item.target), sources=tuple(map(put, item.sources)))


T3 = prefixed("t3.", _translated(t3.RULES))
FLOW: list[Rule | Drop] = [
    *prefixed("s3gen.", _translated(s3gen.RULES)),
    *(
        Drop(f"s3gen.encoder.{embed}.pos_enc.pe", "a table of sines, computed here")
        for embed in ("embed", "up_embed")
    ),
]
HIFT: list[Rule | Drop] = [
    *prefixed("s3gen.", _translated(hift.RULES)),
    Drop("s3gen.mel2wav.stft_window", "a Hann window, computed here"),
]
CAMPPLUS = prefixed("s3gen.", _translated(_numbered(campplus.RULES)))
UPSTREAM_CAMPPLUS = prefixed("s3gen.", campplus.RULES)
"""mlx-audio renames CAM++ when it loads, so a file may hold it as upstream wrote it."""

VOICE_ENCODER: list[Rule | Drop] = prefixed(
    "ve.",
    [
        # Its LSTMs count from 1; gates are i, f, g, o, as here.
        *(
            rule(f"lstm.{i}.{name}", f"lstm{i + 1}.{name}")
            for i in range(_LSTM_LAYERS)
            for name in ("Wx", "Wh", "bias")
        ),
        rule("proj.{leaf}"),
        Drop("similarity_weight", "scales the similarity of two speakers in training"),
        Drop("similarity_bias", "shifts the similarity of two speakers in training"),
    ],
    target="ve.",
)

_VOICE = "the built-in voice, of unknown origin"
STRAYS: list[Rule | Drop] = [
    Drop("s3gen.trim_fade", "the fade of the first 40 ms, computed here"),
    Drop("s3gen.tokenizer.{path}", "an S3 tokenizer that no loader of this layout reads"),
    Drop("gen.{path}", _VOICE),
    Drop("t3.speaker_emb", _VOICE),
    Drop("t3.cond_prompt_speech_tokens", _VOICE),
    Drop("t3.emotion_adv", _VOICE),
]
"""What such a file may hold besides the weights: its writer merged other files into it."""

GATES = "was written with the gates of its LSTMs in another order than MLX reads them"
_COMMON = [*T3, *FLOW, *HIFT, *STRAYS]
RULES_A = [*VOICE_ENCODER, *_COMMON, *CAMPPLUS]
RULES_A_UPSTREAM_CAMPPLUS = [*VOICE_ENCODER, *_COMMON, *UPSTREAM_CAMPPLUS]
RULES_B: list[Rule | Drop] = [Drop("ve.{path}", GATES), *_COMMON, *CAMPPLUS]


def is_upstream_campplus(name: str) -> bool:
    """Whether a tensor is named as only upstream's own CAM++ names its."""
    return name.startswith("s3gen.speaker_encoder.xvector.")
