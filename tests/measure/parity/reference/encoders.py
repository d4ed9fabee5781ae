"""What the reference's S3 tokenizer, VoiceEncoder and CAM++ make of its own features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chatterbox.models.s3gen.xvector import CAMPPlus
from chatterbox.models.voice_encoder import VoiceEncConfig, VoiceEncoder
from s3tokenizer.model_v2 import ModelConfig, S3TokenizerV2, precompute_freqs_cis
from safetensors.torch import load_file

from .context import Context
from .frontends import features as clip_features

Embed = Callable[[np.ndarray], np.ndarray]

SMALL_FRAMES = {"s3_log_mel_prompt": 160, "kaldi_fbank": 240, "voice_mel": 300}
"""Enough for a full and a short segment, and for a padded last window."""


def record(context: Context) -> dict[str, np.ndarray]:
    """Per clip ``{clip}.{feature}`` (time, mels), the hidden states, tokens and embeddings."""
    upstream = context.weights(context.s3gen_file)
    architecture = context.architecture
    tokenizer = s3_tokenizer(architecture["s3_tokenizer"], under("tokenizer.", upstream))
    own = {
        "voice_encoder": voice_encoder(
            context.weights("ve.safetensors"), architecture["voice_encoder"]
        ),
        "campplus": campplus(under("speaker_encoder.", upstream), architecture["campplus"]),
    }
    trained = _stand_ins(context.stand_ins) if context.stand_ins else {}

    tensors: dict[str, np.ndarray] = {}
    for clip in context.clips[:1] if context.small else context.clips:
        features = {
            name: np.ascontiguousarray(array[: SMALL_FRAMES[name]] if context.small else array)
            for name, array in clip_features(clip)
            if name in SMALL_FRAMES
        }
        log_mel = torch.from_numpy(features["s3_log_mel_prompt"].T)[None]
        hidden, _ = tokenizer.encoder(log_mel, torch.tensor([log_mel.shape[-1]]))
        results = {
            "s3_hidden": hidden[0].numpy(),
            "s3_tokens": tokenizer.quantizer.encode(hidden)[0].numpy(),
        }
        for source, networks in (("own", own), ("trained", trained)):
            for name, embed in networks.items():
                results[f"{source}.{name}"] = embed(features[_HEARS[name]])
        tensors |= {f"{clip.stem}.{name}": array for name, array in (features | results).items()}
    return tensors


_HEARS = {"voice_encoder": "voice_mel", "campplus": "kaldi_fbank"}


def under(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def s3_tokenizer(sizes: dict[str, int], weights: dict[str, Any]) -> S3TokenizerV2:
    heads, width = sizes["heads"], sizes["width"]
    model = S3TokenizerV2(
        "speech_tokenizer_v2_25hz",
        ModelConfig(
            n_mels=sizes["mels"],
            n_audio_state=width,
            n_audio_head=heads,
            n_audio_layer=sizes["layers"],
        ),
    )
    # The class writes 64 here, which is the published model's head width.
    model.encoder.freqs_cis = precompute_freqs_cis(width // heads, 2048)
    model.load_state_dict({k: v for k, v in weights.items() if k not in ("_mel_filters", "window")})
    return model.eval()


def voice_encoder(weights: dict[str, Any], sizes: dict[str, int] | None = None) -> Embed:
    settings = VoiceEncConfig()
    if sizes:
        settings.num_mels = sizes["mels"]
        settings.ve_hidden_size = sizes["hidden"]
        settings.speaker_embed_size = sizes["embedding"]
    model = VoiceEncoder(settings)
    model.load_state_dict(weights)
    model.eval()
    return lambda mel: model.embeds_from_mels([mel], rate=1.3)[0]


def campplus(weights: dict[str, Any], sizes: dict[str, int] | None = None) -> Embed:
    settings = {}
    if sizes:
        settings = {
            "feat_dim": sizes["mels"],
            "embedding_size": sizes["embedding"],
            "growth_rate": sizes["growth"],
            "bn_size": sizes["bottleneck"],
            "init_channels": sizes["initial_channels"],
        }
    model = CAMPPlus(memory_efficient=False, **settings)
    kept = model.state_dict()  # stand-ins come without the counters that inference never reads
    counters = {k: v for k, v in kept.items() if k.endswith("num_batches_tracked")}
    model.load_state_dict(counters | weights)
    model.eval()
    return lambda fbank: model(torch.from_numpy(fbank)[None])[0].numpy()


def _stand_ins(folder: Path) -> dict[str, Embed]:
    """Trained networks of the published sizes, which are the classes' defaults."""
    weights = load_file(folder / "campplus_zh_en.safetensors")
    return {
        "voice_encoder": voice_encoder(load_file(folder / "ve_resemblyzer.safetensors")),
        "campplus": campplus(under("speaker_encoder.", weights)),
    }
