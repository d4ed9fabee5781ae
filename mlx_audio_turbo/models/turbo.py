"""Chatterbox Turbo: GPT-2, sounds and moods as tags, a flow of two steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from ..options import ChunkOptions, TurboBatchOptions, TurboStreamOptions
from ..speech import AudioChunk, Speech
from ..voice import Voice
from .base import Model


class ChatterboxTurbo(Model):
    """Chatterbox Turbo and Nano. See :class:`Model` for what all models share.

    The keyword options of each call are those of ``TurboOptions``: ``seed``, ``temperature``,
    ``top_k``, ``top_p``, ``repetition_penalty``, ``max_tokens``, ``segment_limit``, ``pauses``,
    ``trim``, ``watchdog`` and ``retries``.
    """

    MODEL_TYPE = "chatterbox_turbo"
    DEFAULT = "ResembleAI/chatterbox-turbo"

    def generate(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        ref_audio: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
        watermark: bool = False,
        **options: Unpack[TurboBatchOptions],
    ) -> Speech:
        """Speak ``text`` of any length.

        Args:
            voice: who speaks; or ``ref_audio`` (with ``sample_rate`` for an array), a clip to make
                the voice of. One of the two, unless the model has a built-in voice.
            watermark: mark the audio with Perth, as the reference does (extra ``watermark``).
            options: see :class:`ChatterboxTurbo`, and ``batch_size``, the segments of a long text
                that are decoded together. Where ``watchdog`` finds runaway generation, the segment
                is sampled again up to ``retries`` times, or ends there; ``Speech.notes`` says so.

        Raises:
            TextError: the text is empty.
            AudioError: the clip cannot be used.
            VoiceError: no voice, or one of another model family.
            OptionError: an unknown option, or a value outside of its range.
            ExtraError: ``watermark`` is set and resemble-perth is not installed.
        """
        return self._speaking.whole(
            text,
            lambda: self._voice(voice, ref_audio, sample_rate, normalize_loudness),
            watermark=watermark,
            options=self._options(TurboBatchOptions, options),
        )

    def stream(
        self,
        text: str | Iterable[str],
        *,
        voice: Voice | None = None,
        ref_audio: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
        **options: Unpack[TurboStreamOptions],
    ) -> Iterator[AudioChunk]:
        """Speak ``text`` and give the audio in chunks as it is made; the last chunk says so.

        The arguments are those of :meth:`generate`; ``chunks`` sets the sizes of the chunks.
        Errors are raised by the call, before the first chunk. The model works ahead of the caller
        by a few chunks; closing the iterator ends the work. A runaway segment is sampled again
        only while none of its audio was emitted, and emitted audio is never trimmed.

        Args:
            text: a str, or an iterable of str: text in pieces, as a language model writes it.

        A text in pieces is spoken while it comes, by sentences. A sentence is spoken when the word
        after it, a blank line or the end of the text shows that it has ended; one of less than 20
        characters (a fifteenth of ``segment_limit``) together with the next. A longer one than
        ``segment_limit`` is split. How the text is cut into pieces never changes the audio: it is
        that of ``stream([text])``.

        The pieces are taken by another thread, up to eight segments ahead. Closing the stream
        closes their iterator, if it can be closed, once its next piece has come. What the iterator
        raises is raised by the stream, after the audio of the sentences before. The last chunk has
        no audio where the text ended with a blank line.
        """
        values = self._options(TurboStreamOptions, options)
        values["chunks"] = values["chunks"] or ChunkOptions()
        return self._speaking.chunks(
            text,
            lambda: self._voice(voice, ref_audio, sample_rate, normalize_loudness),
            values,
        )

    def generate_batch(
        self,
        texts: Sequence[str],
        *,
        voice: Voice | None = None,
        voices: Sequence[Voice] | None = None,
        **options: Unpack[TurboBatchOptions],
    ) -> Iterator[Speech]:
        """Speak many texts, ``batch_size`` segments at a time; the results come in order.

        Each result equals that of :meth:`generate` for its text alone with the same seed.

        Args:
            voice: who speaks all texts; or ``voices``, one for each text.

        Raises:
            The errors of :meth:`generate`, by the call.
        """
        options.setdefault("batch_size", 8)
        return self._speaking.batch(
            texts,
            voice,
            voices,
            self._voice,
            self._options(TurboBatchOptions, options),
        )

    def generate_parts(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        first: int = 0,
        **options: Unpack[TurboBatchOptions],
    ) -> Iterator[Speech]:
        """The parts that :meth:`generate` joins, one for each segment, as each is ready.

        A book takes no more memory than its longest segment, and can be continued after a stop.

        Args:
            first: the index of the first part to make; the parts do not depend on it.

        Raises:
            The errors of :meth:`generate`, by the call.
        """
        return self._speaking.parts(
            text,
            lambda: self._voice(voice),
            first=first,
            options=self._options(TurboBatchOptions, options),
        )
