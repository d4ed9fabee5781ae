"""The voice of a run: of ``--voice``, of ``--ref_audio``, or the model's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Protocol

import numpy as np

from .. import voice_library
from ..audio.files import check_samples, load_audio
from ..config import SAMPLE_RATE
from ..errors import VoiceError
from ..loading import catalog
from ..voice import Voice

_NONE = "give --voice NAME or --ref_audio CLIP"


class Encoder(Protocol):
    """What a model has that makes voices."""

    @property
    def builtin_voice(self) -> Voice | None: ...

    def encode_voice(self, clip: np.ndarray, *, sample_rate: int) -> Voice: ...


def given_voice(args: argparse.Namespace) -> Voice | np.ndarray | None:
    """The voice of ``--voice``, or the samples of ``--ref_audio``, before a model is loaded.

    Raises:
        TurboError: there is no such voice, or the clip cannot be used.
        VoiceError: none is given, and the model is known to have none.
    """
    if args.voice is not None:
        own = catalog.model_voice(args.model, args.voice)
        return Voice.load(own) if own is not None else voice_library.find(args.voice).voice
    if args.ref_audio is not None:
        return load_audio(args.ref_audio, sample_rate=SAMPLE_RATE, start=args.ref_start)
    if args.model in ("turbo", "tiny", catalog.DEFAULT_MODEL):
        raise VoiceError(f"there is no voice; {_NONE}")
    return None


def made_voice(
    given: Voice | np.ndarray | None,
    model: Encoder,
    args: argparse.Namespace,
    *,
    save: Path | None,
    **options: bool,
) -> Voice:
    """The voice of a run with a model; it is saved where ``--save_voice`` says.

    Args:
        given: as :func:`given_voice` returned it.
        options: of ``encode_voice``.
    """
    if given is None:
        if model.builtin_voice is None:
            raise VoiceError(f"this model has no built-in voice; {_NONE}")
        return model.builtin_voice
    if isinstance(given, Voice):
        return given
    samples = check_samples(given, str(args.ref_audio))
    voice = model.encode_voice(samples, sample_rate=SAMPLE_RATE, **options)
    if save is not None:
        voice.save(save)
    return voice
