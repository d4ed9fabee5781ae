"""Mel → samples, with the one step that runs on the host: the phase of the harmonic source."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from .hift.generator import HiFTGenerator, fade_in
from .hift.source import phase_offsets
from .noise import Draws


def vocode(vocoder: HiFTGenerator, mel: mx.array, draws: Draws) -> np.ndarray:
    """Render a whole utterance.

    Args:
        mel: (1, frames, mels).

    Returns:
        (1, 480 * frames) float32.
    """
    harmonics = vocoder.config.harmonics
    return render(
        vocoder,
        mel,
        phases=draws.phases(harmonics),
        noise=draws.source(0, mel.shape[1], harmonics),
    )


def render(
    vocoder: HiFTGenerator, mel: mx.array, *, phases: mx.array, noise: mx.array
) -> np.ndarray:
    """The same with the source's start phases (1, harmonics + 1) and noise given."""
    f0 = vocoder.f0(mel)
    # The one evaluation between mel and samples: a few hundred numbers, summed in float64.
    offsets = phase_offsets(
        np.array(f0),
        harmonics=vocoder.config.harmonics,
        samples_per_frame=vocoder.config.samples_per_frame,
    )
    source = vocoder.source(f0, mx.array(offsets), phases, noise)
    return np.array(fade_in(vocoder.decode(mel, source)))
