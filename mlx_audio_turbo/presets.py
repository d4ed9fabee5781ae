"""The sizes of the published models and of the test model."""

from __future__ import annotations

from dataclasses import replace

from .config import (
    SPEECH_CODES,
    CAMPlusConfig,
    EncoderConfig,
    EstimatorConfig,
    HiFTConfig,
    LanguageTextConfig,
    ModelConfig,
    OriginalT3Config,
    ReferenceClipConfig,
    RenderingConfig,
    RopeScalingConfig,
    S3GenConfig,
    S3TokenizerConfig,
    T3Config,
    TextConfig,
    VoiceEncoderConfig,
)

TURBO_TYPE = "chatterbox_turbo"
ORIGINAL_TYPE = "chatterbox"
MULTILINGUAL_TYPE = "chatterbox_multilingual"
"""The values of ``model_type`` in ``config.json``."""

PUBLISHED = {
    "turbo": "ResembleAI/chatterbox-turbo",
    "nano": "ResembleAI/chatterbox-nano",
    "original": "ResembleAI/chatterbox",
    "multilingual": "ResembleAI/chatterbox",
    "multilingual-v3": "ResembleAI/chatterbox",
}
"""The Hub repository of each published model, by its short name."""
BUNDLED = ("demo",)
"""Trained models that come with the package, in ``assets/``."""
MADE = ("tiny", "tiny-original", "tiny-multilingual")
"""Untrained models that are made on the spot, for tests and a first look."""

TAGS = (
    *("[angry]", "[fear]", "[surprised]", "[whispering]", "[advertisement]", "[dramatic]"),
    *("[narration]", "[crying]", "[happy]", "[sarcastic]", "[clear throat]", "[sigh]", "[shush]"),
    *("[cough]", "[groan]", "[sniff]", "[gasp]", "[chuckle]", "[laugh]"),
)
"""Turbo's tags, in the order of their ids, which are the last of its vocabulary."""
VOICE_FILE = "conds.safetensors"
"""The built-in voice of a model folder."""

TURBO = ModelConfig(
    t3=T3Config(
        width=1024,
        layers=24,
        heads=16,
        positions=8196,
        text_vocabulary=50_276,
        speech_vocabulary=6563,
        speaker_embedding=256,
        prompt_tokens=375,
    ),
    s3_tokenizer=S3TokenizerConfig(
        mels=128, width=1280, heads=20, layers=6, memory_kernel=31, codebook_dims=8
    ),
    voice_encoder=VoiceEncoderConfig(mels=40, hidden=256, layers=3, embedding=256),
    campplus=CAMPlusConfig(
        mels=80,
        embedding=192,
        head_channels=32,
        head_blocks=(2, 2),
        initial_channels=128,
        growth=32,
        bottleneck=4,
        block_layers=(12, 24, 16),
        block_kernels=(3, 3, 3),
        block_dilations=(1, 2, 2),
        segment=100,
    ),
    s3gen=S3GenConfig(
        vocabulary=SPEECH_CODES,
        mels=80,
        speaker_embedding=192,
        encoder=EncoderConfig(
            width=512, heads=8, feed_forward=2048, blocks=6, up_blocks=4, lookahead=3
        ),
        estimator=EstimatorConfig(
            channels=256, heads=8, head_dim=64, blocks=4, mid_blocks=12, steps=2
        ),
    ),
    hift=HiFTConfig(
        mels=80,
        channels=512,
        upsample_rates=(8, 5, 3),
        upsample_kernels=(16, 11, 7),
        resblock_kernels=(3, 7, 11),
        resblock_dilations=((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        source_kernels=(7, 7, 11),
        source_dilations=((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        harmonics=8,
        fft=16,
        hop=4,
        f0_channels=512,
        f0_layers=5,
    ),
    reference_clip=ReferenceClipConfig(
        min_seconds=5, loudness=-27.0, t3_prompt_seconds=15, s3gen_prompt_seconds=10
    ),
    text=TextConfig(max_tokens=1024),
    rendering=RenderingConfig(closing_silence=3, noise_scale=1.0),
    generation={},
)
"""Chatterbox Turbo, 350 M parameters."""

ORIGINAL_T3 = OriginalT3Config(
    width=1024,
    layers=30,
    heads=16,
    feed_forward=4096,
    norm_eps=1e-5,
    rope_theta=500_000.0,
    rope_scaling=RopeScalingConfig(
        factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_positions=8192
    ),
    text_vocabulary=704,
    text_positions=2050,
    start_text=255,
    stop_text=0,
    speech_vocabulary=8194,
    speech_positions=4100,
    speaker_embedding=256,
    prompt_tokens=150,
    perceiver_queries=32,
    perceiver_heads=4,
)
"""The language model of the original Chatterbox, 500 M parameters."""

MULTILINGUAL_T3 = replace(ORIGINAL_T3, text_vocabulary=2454)
"""That of the multilingual Chatterbox."""

TINY_ORIGINAL_T3 = replace(
    ORIGINAL_T3,
    width=128,
    layers=3,
    heads=2,
    feed_forward=128,
    text_positions=402,
    speech_positions=1002,
    perceiver_queries=4,
    perceiver_heads=2,
)
"""The test size of the original's language model."""


def _with_guidance(s3gen: S3GenConfig) -> S3GenConfig:
    """Turbo's S3Gen with the flow of the original: ten steps and guidance."""
    flow = replace(s3gen.estimator, steps=10, schedule="cosine", guidance=0.7, mean_flow=False)
    return replace(s3gen, estimator=flow)


ORIGINAL_S3GEN = _with_guidance(TURBO.s3gen)
"""S3Gen of the original and of the multilingual Chatterbox: ten steps with guidance."""

ORIGINAL = replace(
    TURBO,
    t3=ORIGINAL_T3,
    s3gen=ORIGINAL_S3GEN,
    reference_clip=ReferenceClipConfig(
        min_seconds=0, loudness=None, t3_prompt_seconds=6, s3gen_prompt_seconds=10
    ),
    text=TextConfig(max_tokens=ORIGINAL_T3.text_positions - 2),
    rendering=RenderingConfig(closing_silence=0, noise_scale=1.0),
    generation={
        "temperature": 0.8,
        "min_p": 0.05,
        "top_p": 1.0,
        "repetition_penalty": 1.2,
        "cfg_weight": 0.5,
        "exaggeration": 0.5,
    },
)
"""The original Chatterbox, English."""

MULTILINGUAL = replace(ORIGINAL, t3=MULTILINGUAL_T3, language_text=LanguageTextConfig())
"""Version 2 of the multilingual Chatterbox."""

MULTILINGUAL_V3 = MULTILINGUAL
"""Version 3: the same sizes, other weights."""

NANO = replace(TURBO, t3=replace(TURBO.t3, width=768, layers=12, heads=12))
"""Turbo with a smaller T3."""

TINY = replace(
    TURBO,
    t3=replace(TURBO.t3, width=128, layers=3, heads=2, positions=2560, text_vocabulary=276),
    s3_tokenizer=replace(TURBO.s3_tokenizer, width=128, heads=2, layers=2),
    voice_encoder=replace(TURBO.voice_encoder, hidden=32),
    campplus=replace(TURBO.campplus, initial_channels=16, growth=4, bottleneck=2),
    s3gen=replace(
        TURBO.s3gen,
        encoder=replace(
            TURBO.s3gen.encoder, width=128, heads=2, feed_forward=128, blocks=2, up_blocks=1
        ),
        estimator=replace(
            TURBO.s3gen.estimator, channels=32, heads=2, head_dim=64, blocks=1, mid_blocks=2
        ),
    ),
    hift=replace(TURBO.hift, channels=128, f0_channels=64),
)
"""The test size, for untrained weights: 13 MB in float16.

Head widths are 64 and channels multiples of 16, so that a GPU runs the fused kernels of the
published sizes.
"""

TINY_ORIGINAL_S3GEN = _with_guidance(TINY.s3gen)
"""The test size of the original's S3Gen."""

TINY_ORIGINAL = replace(
    ORIGINAL,
    t3=TINY_ORIGINAL_T3,
    s3gen=TINY_ORIGINAL_S3GEN,
    s3_tokenizer=TINY.s3_tokenizer,
    voice_encoder=TINY.voice_encoder,
    campplus=TINY.campplus,
    hift=TINY.hift,
    text=TextConfig(max_tokens=TINY_ORIGINAL_T3.text_positions - 2),
)
"""The test size of the original model."""

TINY_MULTILINGUAL = replace(
    TINY_ORIGINAL,
    t3=replace(TINY_ORIGINAL_T3, text_vocabulary=2454),
    language_text=LanguageTextConfig(),
)
"""The test size of the multilingual model."""
