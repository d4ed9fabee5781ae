"""The inputs of T3 on both sides: pure numpy, from seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

START_SPEECH = 6561


@dataclass(frozen=True)
class Sequence:
    """One utterance: ``speaker`` (256,), ids of ``prompt``, ``text`` and ``forced`` speech."""

    speaker: np.ndarray
    prompt: np.ndarray
    text: np.ndarray
    forced: np.ndarray
    greedy: int
    """How many tokens to decode without chance."""


def sequence(sizes: Mapping[str, Any], *, small: bool) -> Sequence:
    """The utterance for a T3 of ``sizes`` (the fields of T3Config)."""
    rng = np.random.default_rng(11)
    speaker = rng.standard_normal(sizes["speaker_embedding"]).astype(np.float32)
    return Sequence(
        speaker=speaker / np.linalg.norm(speaker),
        prompt=rng.integers(0, START_SPEECH, sizes["prompt_tokens"]),
        text=rng.integers(0, sizes["text_vocabulary"], 40),
        forced=rng.integers(0, START_SPEECH, 12 if small else 200),
        greedy=40 if small else 200,
    )


def nano_sizes(*, small: bool) -> dict[str, Any]:
    """Chatterbox Nano's T3, or one of its proportions that a unit test can afford."""
    sizes = {
        "width": 768,
        "layers": 12,
        "heads": 12,
        "positions": 8196,
        "text_vocabulary": 50_276,
        "speech_vocabulary": 6563,
        "speaker_embedding": 256,
        "prompt_tokens": 375,
    }
    tiny = {"width": 96, "layers": 2, "heads": 6, "positions": 160, "text_vocabulary": 300}
    return sizes | tiny | {"prompt_tokens": 25} if small else sizes


def original_sizes(*, small: bool, multilingual: bool = False) -> dict[str, Any]:
    """The original's T3 (the fields of OriginalT3Config), or one that a unit test can afford.

    The multilingual one has few layers: only its text table differs.
    """
    sizes = {
        "width": 1024,
        "layers": 30,
        "heads": 16,
        "feed_forward": 4096,
        "norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "factor": 8.0,
            "low_frequency_factor": 1.0,
            "high_frequency_factor": 4.0,
            "original_positions": 8192,
        },
        "text_vocabulary": 704,
        "text_positions": 2050,
        "start_text": 255,
        "stop_text": 0,
        "speech_vocabulary": 8194,
        "speech_positions": 4100,
        "speaker_embedding": 256,
        "prompt_tokens": 150,
        "perceiver_queries": 32,
        "perceiver_heads": 4,
    }
    if multilingual:
        sizes |= {"text_vocabulary": 2454, "layers": 4}
    tiny = {"width": 64, "layers": 2, "heads": 4, "feed_forward": 128, "perceiver_queries": 8}
    tiny |= {"text_positions": 102, "speech_positions": 204, "prompt_tokens": 25}
    return sizes | tiny if small else sizes


def original_sequence(sizes: Mapping[str, Any], *, small: bool) -> Sequence:
    """The utterance for an original T3; with the forced speech it takes over 600 positions."""
    plain = sequence(sizes, small=small)
    rng = np.random.default_rng(12)
    return replace(
        plain,
        text=np.append(plain.text, sizes["text_vocabulary"] - 1),
        forced=rng.integers(0, START_SPEECH, 12 if small else 550),
    )


EXAGGERATION, GUIDANCE = 0.7, 0.5
"""For the original: not the neutral exaggeration, which a fixed one would meet too."""


@dataclass(frozen=True)
class OriginalSetting:
    """How the original samples; ``cases`` logit vectors are filtered with it."""

    temperature: float
    min_p: float
    top_p: float
    penalty: float
    cases: int = 100


ORIGINAL_SETTINGS = (
    OriginalSetting(0.8, 0.05, 1.0, 1.2, cases=1000),
    OriginalSetting(0.8, 0.05, 0.8, 2.0),
    OriginalSetting(1.0, 0.0, 0.9, 1.2),
    OriginalSetting(1.3, 0.02, 0.95, 1.0),
    OriginalSetting(0.5, 1.0, 1.0, 1.2),
)


def thin(x: np.ndarray, *, small: bool) -> np.ndarray:
    """What of ``x`` (T, V) is stored: all, or few enough columns for the repository."""
    return x[:, ::16] if small else x


@dataclass(frozen=True)
class Setting:
    """The sampling options, by the reference's names, and the number of logit vectors to try.

    tied: the logits are multiples of 1/8, so that many of them are equal.
    """

    temperature: float
    top_k: int
    top_p: float
    penalty: float
    cases: int = 100
    tied: bool = False


SETTINGS = (
    Setting(0.8, 1000, 0.95, 1.2, cases=1000),
    Setting(1.0, 50, 0.9, 1.0),
    Setting(1.3, 0, 0.8, 1.5),
    Setting(0.6, 200, 1.0, 1.1),
    Setting(1.0, 0, 1.0, 1.3),
    Setting(0.8, 1000, 0.05, 2.0),
    Setting(0.8, 1, 0.95, 1.2),
    Setting(0.9, 100_000, 0.999, 0.9),
    Setting(0.8, 1000, 1.0, 1.2, tied=True),
    Setting(0.8, 1000, 0.95, 1.2, tied=True),
)


def logit_cases(
    vocabulary: int, setting: int, *, small: bool, cases: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Logits (V,) of many spreads, with a history of ids (n,) that holds likely ones.

    Every fifth history is the start token alone, as at the first rng.
    """
    rng = np.random.default_rng((7, setting))
    tied, count = SETTINGS[setting].tied, cases or SETTINGS[setting].cases
    for case in range(min(count, 2) if small else count):
        spread, centre = rng.uniform(0.5, 5), rng.uniform(-3, 3)
        logits = rng.standard_normal(vocabulary) * spread + centre
        if tied:
            logits = np.round(logits * 8) / 8
        history = rng.integers(0, vocabulary - 1, rng.integers(1, 400))
        likely = np.argsort(logits)[-20:]
        history = np.concatenate([history, rng.choice(likely, 5)])
        if case % 5 == 0:
            history = np.array([START_SPEECH])
        yield logits.astype(np.float32), history
