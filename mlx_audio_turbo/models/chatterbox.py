"""The original Chatterbox: Llama, emotion, guidance, a flow of ten steps; English."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from ..options import ChatterboxBatchOptions, ChatterboxStreamOptions, ChunkOptions
from ..presets import ORIGINAL_TYPE, PUBLISHED
from ..speech import AudioChunk, Speech
from ..voice import Voice
from .base import Model


class Chatterbox(Model):
    """The original Chatterbox, in English. See :class:`Model` for what all models share.

    The keyword options of each call are those of ``ChatterboxOptions``: Turbo's without ``top_k``,
    and ``exaggeration``, ``cfg_weight`` and ``min_p``. A livelier voice has ``exaggeration=0.7``
    and ``cfg_weight=0.3``; a fast speaker is slower with ``cfg_weight=0.3``.
    """

    MODEL_TYPE = ORIGINAL_TYPE
    DEFAULT = PUBLISHED["original"]

    def generate(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        ref_audio: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
        watermark: bool = False,
        **options: Unpack[ChatterboxBatchOptions],
    ) -> Speech:
        """Speak ``text`` of any length.

        The arguments and errors are those of :meth:`ChatterboxTurbo.generate`, with the options of
        this model.
        """
        return self._speaking.whole(
            text,
            lambda: self._voice(voice, ref_audio, sample_rate, normalize_loudness),
            watermark=watermark,
            options=self._options(ChatterboxBatchOptions, options),
        )

    def stream(
        self,
        text: str | Iterable[str],
        *,
        voice: Voice | None = None,
        ref_audio: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
        **options: Unpack[ChatterboxStreamOptions],
    ) -> Iterator[AudioChunk]:
        """Speak ``text`` and give the audio in chunks; see :meth:`ChatterboxTurbo.stream`."""
        values = self._options(ChatterboxStreamOptions, options)
        values["chunks"] = values["chunks"] or ChunkOptions()
        return self._speaking.chunks(
            text, lambda: self._voice(voice, ref_audio, sample_rate, normalize_loudness), values
        )

    def generate_batch(
        self,
        texts: Sequence[str],
        *,
        voice: Voice | None = None,
        voices: Sequence[Voice] | None = None,
        **options: Unpack[ChatterboxBatchOptions],
    ) -> Iterator[Speech]:
        """Speak many texts together; see :meth:`ChatterboxTurbo.generate_batch`."""
        options.setdefault("batch_size", 8)
        return self._speaking.batch(
            texts, voice, voices, self._voice, self._options(ChatterboxBatchOptions, options)
        )

    def generate_parts(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        first: int = 0,
        **options: Unpack[ChatterboxBatchOptions],
    ) -> Iterator[Speech]:
        """Speak ``text`` part by part; see :meth:`ChatterboxTurbo.generate_parts`."""
        return self._speaking.parts(
            text,
            lambda: self._voice(voice),
            first=first,
            options=self._options(ChatterboxBatchOptions, options),
        )
