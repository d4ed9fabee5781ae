"""Perth, the inaudible watermark that the reference adds to all its output.

It marks audio as synthetic and survives mp3 and cutting. Here it is added on request only, because
``resemble-perth`` (extra ``watermark``) requires PyTorch, which nothing else here needs.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import os
import warnings
from typing import Any

import numpy as np

from ..config import SAMPLE_RATE
from ..errors import AudioError, ExtraError
from .files import load_audio

SHORTEST = 0.1
"""Seconds; shorter audio cannot hold the mark."""


def check_installed() -> None:
    """Check before long work that the extra is installed and works.

    Raises:
        ExtraError: it is not, or does not.
    """
    _perth()


def apply(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """``samples`` (samples,) with the watermark, float32 of the same length.

    Raises:
        ExtraError: the extra is not installed.
        AudioError: shorter than 0.1 s.
    """
    _check_length(samples, sample_rate)
    marked = _perth().apply_watermark(samples, sample_rate=sample_rate)
    marked = np.asarray(marked, np.float32)[: len(samples)]
    return np.pad(marked, (0, len(samples) - len(marked)))


def detect(path: str | os.PathLike[str]) -> float:
    """The confidence, 0 to 1, that an audio file has the watermark.

    Of a file longer than a minute 30 s are used.

    Raises:
        AudioError: the file cannot be read.
        ExtraError: the extra is not installed.
    """
    perth = _perth()
    return detect_samples(load_audio(path, sample_rate=SAMPLE_RATE), SAMPLE_RATE, perth)


def detect_samples(samples: np.ndarray, sample_rate: int, perth: Any = None) -> float:
    """As :func:`detect`, of samples (samples,).

    Raises:
        ExtraError: the extra is not installed.
    """
    _check_length(samples, sample_rate)
    found = (perth or _perth()).get_watermark(samples, sample_rate=sample_rate, round=False)
    return float(np.mean(np.asarray(found)))


@functools.cache
def _perth() -> Any:
    """The watermarker, loaded once."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            perth = importlib.import_module("perth")
    except ImportError:
        raise ExtraError(
            "the watermark needs resemble-perth; install it with: "
            "pip install 'mlx-audio-turbo[watermark]'"
        ) from None
    if getattr(perth, "PerthImplicitWatermarker", None) is None:
        # It swallows its own ImportError, mostly of pkg_resources, which newer setuptools dropped.
        raise ExtraError(
            "resemble-perth is installed but cannot load its network; "
            "pip install torch 'setuptools<81' mends that"
        )
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return perth.PerthImplicitWatermarker()


def _check_length(samples: np.ndarray, sample_rate: int) -> None:
    if len(samples) < SHORTEST * sample_rate:
        raise AudioError(f"{len(samples)} samples are too few for a watermark; give 0.1 s or more")
