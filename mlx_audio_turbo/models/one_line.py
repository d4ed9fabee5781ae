"""The one-liner: a sentence into a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.files import check_writable
from ..errors import OptionError
from ..files.paths import same_file, user_path
from ..presets import PUBLISHED
from ..speech import Speech
from ..voice import Voice
from .load import load_model


def speak(
    text: str,
    *,
    ref_audio: str | Path | np.ndarray | None = None,
    voice: Voice | None = None,
    sample_rate: int | None = None,
    output: str | Path | None = None,
    model: str | Path = PUBLISHED["turbo"],
    **options: Any,
) -> Speech:
    """Load a model of any kind, speak ``text`` in the voice of a clip, and keep it in a file.

    To speak more than once, load the model once: see :class:`ChatterboxTurbo`.

    Args:
        ref_audio: a clip of the voice, or samples with ``sample_rate``; or ``voice``. Neither
            where the model has a voice of its own, as ``"demo"`` does.
        output: the file; its suffix chooses the format.
        model: a folder, a Hub id or a name.
        options: those of the model; see ``generate``.

    Raises:
        OptionError: the output is the clip.
        TurboError: the errors of ``from_pretrained``, ``generate`` and ``Speech.save``.
    """
    if output is not None:
        path = check_writable(output)
        if isinstance(ref_audio, (str, os.PathLike)) and same_file(path, user_path(ref_audio)):
            raise OptionError(f"the output {path} is the clip that is read; give another output")
    loaded: Any = load_model(model)
    speech: Speech = loaded.generate(
        text, voice=voice, ref_audio=ref_audio, sample_rate=sample_rate, **options
    )
    if output is not None:
        speech.save(output)
    return speech
