"""Voice conversion: a recording in another voice, with its words, timing and melody kept."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..audio.files import check_samples, load_whole
from ..audio.resample import resample_soxr
from ..config import ENCODER_SAMPLE_RATE, SAMPLE_RATE, TOKENS_PER_SECOND
from ..encoders.features import s3_log_mel
from ..encoders.s3_tokenizer import S3Tokenizer
from ..encoders.speech_tokens import speech_tokens
from ..errors import AudioError, OptionError, VoiceError
from ..loading.folder import MODEL_TYPES
from ..options import ChunkOptions, check_range, resolve_seed
from ..presets import PUBLISHED
from ..speech import AudioChunk, Speech
from ..synthesis.engine import Results
from ..synthesis.noise import NoiseSource
from ..synthesis.tasks import Clock
from ..synthesis.token_to_wav import TokenToWav, tokens_due
from ..voice import Voice
from .base import OpenedModel, open_model
from .voice_input import encode_clip

WHOLE_TOKENS = 30 * TOKENS_PER_SECOND
"""A source of up to 30 s is rendered in one piece, as the reference does. The cost of attention
grows with the square of the length, so a longer one is rendered in pieces of this length."""
CONTEXT_TOKENS = 4 * TOKENS_PER_SECOND


class VoiceConverter(OpenedModel):
    """S3 tokenizer, S3Gen and vocoder of a model, of any kind; T3 is not loaded.

    It may be called from any number of threads. The S3 tokenizer stays in memory from the first
    conversion on.
    """

    _s3_tokenizer: S3Tokenizer

    WHOLE = ChunkOptions(sizes=(WHOLE_TOKENS,), window=CONTEXT_TOKENS)
    """The ``chunks`` with which :meth:`stream` gives the samples of :meth:`convert`."""

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = PUBLISHED["turbo"],
        *,
        revision: str | None = None,
        dtype: mx.Dtype | None = None,
        cache_limit: int | None = None,
    ) -> VoiceConverter:
        """Load the networks of a model folder; the arguments are those of ``ChatterboxTurbo``.

        A Turbo model takes two steps of the flow, an original one ten.

        Raises:
            ModelFolderError: the folder is absent, damaged, or lacks the S3 tokenizer.
            DownloadError: the Hub does not answer or does not know the name.
        """
        loaded, engine = open_model(
            model,
            revision=revision,
            dtype=dtype,
            cache_limit=cache_limit,
            kinds=MODEL_TYPES,
            unused=("t3",),
        )
        return cls(loaded, engine)

    @classmethod
    def of(cls, model: OpenedModel) -> VoiceConverter:
        """The converter of a model that is loaded; it shares the weights and the thread of it."""
        return cls(model._loaded, model._engine)

    def encode_voice(
        self, clip: str | Path | np.ndarray, *, sample_rate: int | None = None
    ) -> Voice:
        """Make a voice of a reference clip, at the loudness that the clip has.

        Args:
            clip: an audio file, or floats (samples,) or (samples, channels) with ``sample_rate``.

        Raises:
            AudioError: the clip cannot be read, is silent, not finite, or too short.
            VoiceError: the model's folder lacks a network that reads clips.
        """
        return self._engine.run(
            encode_clip(self._loaded, clip, sample_rate=sample_rate, normalize=False)
        )

    def convert(
        self,
        source: str | Path | np.ndarray,
        *,
        voice: Voice | None = None,
        sample_rate: int | None = None,
        seed: int | None = None,
        watermark: bool = False,
    ) -> Speech:
        """The recording ``source`` in another voice.

        Args:
            source: an audio file of any length, or floats (samples,) or (samples, channels) with
                ``sample_rate``.
            voice: who shall speak. A voice of any model will do: S3Gen's part of it is used.
            seed: the same seed gives the same audio; random where absent.
            watermark: mark the audio with Perth (extra ``watermark``).

        Returns:
            A speech of the source's length, rounded up to 40 ms. Its ``tokens`` are the source's.

        Raises:
            AudioError: the source cannot be read, is silent, or holds no 40 ms.
            OptionError: the seed or the sample rate is out of range.
            VoiceError: no voice is given, or the folder lacks the S3 tokenizer.
        """
        clock, tokens = Clock(), []
        seed = self._seed(seed)
        audio = list(self._pieces(source, voice, sample_rate, seed, None, clock, tokens))
        speech = Speech(
            audio=np.concatenate(audio),
            text="",
            tokens=np.concatenate(tokens),
            seed=seed,
            seconds=dict(clock.seconds),
        )
        return speech.with_watermark() if watermark else speech

    def stream(
        self,
        source: str | Path | np.ndarray,
        *,
        voice: Voice | None = None,
        sample_rate: int | None = None,
        seed: int | None = None,
        chunks: ChunkOptions | None = None,
    ) -> Iterator[AudioChunk]:
        """The converted recording in chunks, as they are made; the last one says so.

        The arguments and errors are those of :meth:`convert`; ``chunks`` sets the sizes.
        """
        options, tokens = chunks or ChunkOptions(), []
        pieces = self._pieces(
            source, voice, sample_rate, self._seed(seed), options, Clock(), tokens
        )
        return _Chunks(pieces, tokens)

    def _seed(self, seed: int | None) -> int:
        return resolve_seed(None if seed is None else check_range("seed", seed, 0, 2**64 - 1))

    def _pieces(
        self,
        source: str | Path | np.ndarray,
        voice: Voice | None,
        sample_rate: int | None,
        seed: int,
        chunks: ChunkOptions | None,
        clock: Clock,
        found: list[np.ndarray],
    ) -> Results[np.ndarray]:
        """The audio in pieces; ``found`` gets the source's tokens, ``clock`` the time."""
        loaded = self._loaded
        if (reason := loaded.missing.get("s3tokenizer")) is not None:
            raise VoiceError(f"this model cannot convert voices: it has no s3tokenizer, {reason}")
        voice = voice if voice is not None else loaded.builtin_voice
        if voice is None:
            raise VoiceError("give a voice to convert to; encode_voice makes one of a clip")
        if not isinstance(voice, Voice):
            raise VoiceError(f"the voice is a {type(voice).__name__}; give what encode_voice gives")
        if voice.s3gen_prompt_mel.shape[-1] != loaded.config.s3gen.mels:
            raise VoiceError("the voice is of a model of another size; make it again with this one")
        samples = _source(source, sample_rate)
        options = chunks or self.WHOLE
        rendering = replace(loaded.config.rendering, closing_silence=0)
        later = loaded.s3_tokenizer
        assert later is not None

        def steps() -> Generator[np.ndarray | None, None, None]:
            with clock.timing("tokens"):
                log_mel = s3_log_mel(samples)
                self._s3_tokenizer = later.get()
            windows = speech_tokens(self._s3_tokenizer, log_mel)
            while True:
                with clock.timing("tokens"):
                    tokens = next(windows, None)
                if tokens is None:
                    break
                found.append(tokens)
                yield None
            every = [int(token) for tokens in found for token in tokens]
            noise = NoiseSource(mx.random.key(seed))
            renderer = TokenToWav(
                loaded.networks.s3gen, voice, noise, rendering, window=options.window
            )
            whole = chunks is None and len(every) <= WHOLE_TOKENS
            chunk, final = 0, False
            while not final:
                due = tokens_due(chunk, options)
                chunk, final = chunk + 1, whole or due >= len(every)
                pieces = renderer.push(every if final else every[:due], final=final)
                while True:
                    with clock.timing("audio"):
                        piece = next(pieces, None)
                    if piece is None:
                        break
                    yield piece

        return self._engine.stream(steps)


def _source(source: str | Path | np.ndarray, sample_rate: int | None) -> np.ndarray:
    """The recording (samples,) at 16 kHz."""
    if isinstance(source, np.ndarray):
        if sample_rate is None:
            raise OptionError("samples need their sample_rate; pass it with the array")
        check_range("sample_rate", sample_rate, 8_000, 192_000)
        samples = check_samples(source, "the source")
        samples = resample_soxr(samples, sample_rate, ENCODER_SAMPLE_RATE)
    else:
        samples = load_whole(source, sample_rate=ENCODER_SAMPLE_RATE)
    if len(samples) * TOKENS_PER_SECOND < ENCODER_SAMPLE_RATE:
        raise AudioError("the source is shorter than 40 ms; give a recording of speech")
    return samples


class _Chunks:
    """Each piece as a chunk; the last, which carries the tokens, is known when no more comes.

    It may be closed by another thread while a caller waits for the next chunk.
    """

    def __init__(self, pieces: Results[np.ndarray], tokens: list[np.ndarray]):
        self._pieces, self._tokens = pieces, tokens
        self._index, self._piece = 0, None

    def __iter__(self) -> _Chunks:
        return self

    def __next__(self) -> AudioChunk:
        piece = self._piece if self._piece is not None else next(self._pieces)
        self._piece = next(self._pieces, None)
        index, self._index = self._index, self._index + 1
        last = self._piece is None
        return AudioChunk(
            audio=piece,
            sample_rate=SAMPLE_RATE,
            index=index,
            is_last=last,
            text="",
            tokens=np.concatenate(self._tokens) if last else np.zeros(0, np.int32),
        )

    def close(self) -> None:
        """End the work; the remaining chunks are dropped."""
        self._pieces.close()
