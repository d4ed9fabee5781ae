"""The sizes of the random checkpoint whose outputs the reference recorded in tests/goldens."""

from __future__ import annotations

from dataclasses import replace

from mlx_audio_turbo.presets import TURBO

GOLDEN = replace(
    TURBO,
    t3=replace(TURBO.t3, width=64, layers=3, heads=4, positions=2560, text_vocabulary=276),
    s3_tokenizer=replace(TURBO.s3_tokenizer, width=128, heads=2, layers=2),
    voice_encoder=replace(TURBO.voice_encoder, hidden=32),
    campplus=replace(TURBO.campplus, initial_channels=16, growth=4, bottleneck=2),
    s3gen=replace(
        TURBO.s3gen,
        encoder=replace(
            TURBO.s3gen.encoder, width=48, heads=2, feed_forward=96, blocks=2, up_blocks=1
        ),
        estimator=replace(
            TURBO.s3gen.estimator, channels=32, heads=2, head_dim=16, blocks=1, mid_blocks=2
        ),
    ),
    hift=replace(TURBO.hift, channels=64, f0_channels=64),
)
"""Recorded once; independent of the test size that the package offers as ``tiny``."""
