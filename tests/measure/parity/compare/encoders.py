"""Our S3 tokenizer, VoiceEncoder and CAM++ against the reference's, from its own features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.config import CAMPlusConfig, VoiceEncoderConfig
from mlx_audio_turbo.encoders.campplus import CAMPlus
from mlx_audio_turbo.encoders.s3_tokenizer import S3Tokenizer
from mlx_audio_turbo.encoders.voice_encoder import VoiceEncoder
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo_convert.mapping import campplus, s3_tokenizer, voice_encoder

from ..rows import Row, relative
from .context import Context, load_network

Embed = Callable[[np.ndarray], np.ndarray]

_STAGES = {"voice_encoder": "VoiceEncoder", "campplus": "CAM++"}
_HEARS = {"voice_encoder": "voice_mel", "campplus": "kaldi_fbank"}
_SOURCES = {"own": "checkpoint's weights", "trained": "trained stand-ins"}


def rows(context: Context) -> Iterator[Row]:
    """The worst clip of each network; what comes first is that the reference's tensors vary."""
    reference = context.reference("encoders")
    clips = sorted({name.split(".")[0] for name in reference})
    yield from _tokenizer_rows(context, reference, clips)
    upstream = context.checkpoint / "s3gen_meanflow.safetensors"
    networks = {
        "own": {
            "voice_encoder": _voice_encoder(
                context.checkpoint / "ve.safetensors", context.config.voice_encoder
            ),
            "campplus": _campplus(upstream, context.config.campplus),
        }
    }
    if context.stand_ins:
        trained = context.stand_ins
        networks["trained"] = {
            "voice_encoder": _voice_encoder(
                trained / "ve_resemblyzer.safetensors", TURBO.voice_encoder
            ),
            "campplus": _campplus(trained / "campplus_zh_en.safetensors", TURBO.campplus),
        }
    for source, embeds in networks.items():
        for name, embed in embeds.items():
            stage, what = _STAGES[name], f"{_SOURCES[source]}, {len(clips)} clips"
            theirs = [reference[f"{clip}.{source}.{name}"] for clip in clips]
            if len(clips) > 1:
                likest = max(_cosine(a, b) for a, b in combinations(theirs, 2))
                yield Row(
                    stage, f"{what}: most similar pair in the reference, cosine", likest, 0.9995
                )
            ours = [embed(reference[f"{clip}.{_HEARS[name]}"]) for clip in clips]
            worst = max(relative(a, b) for a, b in zip(ours, theirs, strict=True))
            yield Row(stage, f"embedding, {what}", worst, 1e-5)


def _tokenizer_rows(
    context: Context, reference: dict[str, np.ndarray], clips: list[str]
) -> Iterator[Row]:
    stage = "S3 tokenizer"
    model = S3Tokenizer(context.config.s3_tokenizer)
    load_network(
        model,
        s3_tokenizer.RULES,
        context.checkpoint / "s3gen_meanflow.safetensors",
        source_prefix="tokenizer.",
        target_prefix="s3tokenizer.",
    )
    theirs = [reference[f"{clip}.s3_tokens"] for clip in clips]
    if not context.own:
        distinct = min(len(set(tokens.tolist())) / len(tokens) for tokens in theirs)
        yield Row(stage, "distinct tokens in the reference, share", distinct, 0.4, at_least=True)
    hidden = [
        model.encode(mx.array(reference[f"{clip}.s3_log_mel_prompt"])[None]) for clip in clips
    ]
    ours = [np.array(model.quantize(states)[0]) for states in hidden]
    if not context.own:  # a trained tokenizer repeats its tokens where the sound does not change
        distinct = min(len(set(tokens.tolist())) / len(tokens) for tokens in ours)
        yield Row(stage, "distinct tokens of ours, share", distinct, 0.4, at_least=True)
    worst = max(
        relative(np.array(states[0]), reference[f"{clip}.s3_hidden"])
        for clip, states in zip(clips, hidden, strict=True)
    )
    yield Row(stage, f"encoder output, {len(clips)} clips", worst, 1e-5)
    agreement = min(
        float(np.mean(a == b)) if a.shape == b.shape else 0.0
        for a, b in zip(ours, theirs, strict=True)
    )
    count = sum(map(len, theirs))
    yield Row(stage, f"{count} tokens, share equal", agreement, 0.995, at_least=True)


def _voice_encoder(path: Path, config: VoiceEncoderConfig) -> Embed:
    model = VoiceEncoder(config)
    load_network(model, voice_encoder.RULES, path, target_prefix="ve.")
    return lambda mel: np.array(model.embed(mx.array(mel)))


def _campplus(path: Path, config: CAMPlusConfig) -> Embed:
    model = CAMPlus(config)
    load_network(
        model,
        campplus.RULES,
        path,
        source_prefix="speaker_encoder.",
        target_prefix="s3gen.speaker_encoder.",
    )
    return lambda fbank: np.array(model(mx.array(fbank)[None])[0])


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
