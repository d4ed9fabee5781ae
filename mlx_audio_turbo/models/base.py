"""What every model has: loading, voices, and the four ways to speak."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
from typing_extensions import Self

from ..audio import watermark as perth
from ..audio.clip_reader import RATES
from ..audio.files import check_samples, load_audio
from ..audio.resample import resample_soxr
from ..config import SAMPLE_RATE, SPEECH_CODES, ModelConfig
from ..encoders.reference_clip import encode
from ..errors import ModelFolderError, OptionError, VoiceError
from ..loading import catalog
from ..loading.folder import LoadedModel, load
from ..options import (
    PauseOptions,
    SamplingOptions,
    SpeakingOptions,
    check_range,
    resolve,
    resolve_seed,
)
from ..speech import AudioChunk, Speech
from ..synthesis import results
from ..synthesis.engine import Engine, Steps, default_cache_limit
from ..synthesis.noise import NoiseSource
from ..synthesis.scheduler import Scheduler
from ..synthesis.tasks import Clock, Piece, segments_of, tasks_of
from ..synthesis.token_to_wav import TokenToWav
from ..t3.prefix_cache import PrefixCache
from ..text.segments import Segment
from ..text.tokenizer import normalize_text
from ..voice import Voice


class Model:
    """A loaded model. The voice is passed in; the model keeps none.

    It may be called from any number of threads: all work runs on one thread of its own, and
    requests take turns there.
    """

    MODEL_TYPE: ClassVar[str]
    """``model_type`` in the ``config.json`` of the folders that this class loads."""
    DEFAULT: ClassVar[str]
    """The Hub id of the official checkpoint."""

    def __init__(self, loaded: LoadedModel, engine: Engine):
        self._loaded, self._engine = loaded, engine
        self._networks = loaded.networks
        self._prefixes = PrefixCache(loaded.networks.t3)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        dtype: mx.Dtype | None = None,
        cache_limit: int | None = None,
    ) -> Self:
        """Load a model; without arguments the official one, which is downloaded and converted once.

        Args:
            model: a folder, a Hub id, or a name such as ``"tiny"``: a few megabytes of untrained
                weights, made on the spot, that turn text into noise and need no network.
            revision: commit of a Hub repository.
            dtype: of the arithmetic; by default float16 on a GPU and float32 on the CPU.
            cache_limit: bytes that MLX may keep of freed buffers while this model works, by
                default 512 MiB on a GPU and 128 MiB on the CPU. The process's own limit is
                restored between steps.

        Raises:
            ModelFolderError: the folder is absent, damaged or of another kind.
            DownloadError: the Hub does not answer or does not know the name.
        """
        name = cls.DEFAULT if model is None else model
        engine = Engine(cache_limit=default_cache_limit() if cache_limit is None else cache_limit)
        try:
            loaded = engine.run(lambda: load(catalog.resolve(name, revision=revision), dtype=dtype))
            if loaded.model_type != cls.MODEL_TYPE:
                raise ModelFolderError(
                    f"{loaded.folder} holds a {loaded.model_type} model, not a {cls.MODEL_TYPE} "
                    "one; load it with the class of that model, or give another folder"
                )
            engine.run(mx.clear_cache)  # the freed buffers of loading fit no later use
            return cls(loaded, engine)
        except BaseException:
            engine.close()
            raise

    @property
    def config(self) -> ModelConfig:
        """Every size and number of the model."""
        return self._loaded.config

    @property
    def family(self) -> str:
        """Which voices the model can speak with."""
        return self._loaded.family

    @property
    def trained(self) -> bool:
        """Whether the weights are trained, not random."""
        return self._loaded.trained

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user from the converter of the model."""
        return self._loaded.notes

    @property
    def builtin_voice(self) -> Voice | None:
        """The voice that speaks where neither a voice nor a clip is given; most folders lack it."""
        return self._loaded.builtin_voice

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the model performs in the text, such as ``[laugh]``."""
        return self._loaded.tokenizer.tags

    def encode_voice(
        self,
        clip: str | Path | np.ndarray,
        *,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
    ) -> Voice:
        """Make a voice of a reference clip.

        Args:
            clip: an audio file, or floats (samples,) or (samples, channels) with ``sample_rate``.
                10 to 15 s of one clean speaker is best; Turbo needs more than 5 s.
            normalize_loudness: first bring the clip to the loudness that the model was trained
                with, -27 LUFS for Turbo.

        Raises:
            AudioError: the clip cannot be read, is silent, not finite, or too short.
            VoiceError: the model's folder lacks a network that reads clips.
        """
        for network, reason in self._loaded.missing.items():
            raise VoiceError(f"this model cannot make voices: it has no {network}, {reason}")
        if isinstance(clip, np.ndarray):
            if sample_rate is None:
                raise OptionError("samples need their sample_rate; pass it with the array")
            check_range("sample_rate", sample_rate, *RATES)
            samples = check_samples(clip, "the reference clip")
            samples = resample_soxr(samples, sample_rate, SAMPLE_RATE)
        else:
            samples = load_audio(clip, sample_rate=SAMPLE_RATE)
        return self._engine.run(
            lambda: encode(
                samples,
                s3_tokenizer=self._networks.s3tokenizer,
                voice_encoder=self._networks.ve,
                speaker_encoder=self._networks.s3gen.speaker_encoder,
                config=self.config.reference_clip,
                prompt_tokens=self.config.t3.prompt_tokens,
                normalize=normalize_loudness,
                family=self._loaded.family,
            )
        )

    def render(self, tokens: np.ndarray, *, voice: Voice, seed: int = 0) -> np.ndarray:
        """Speech tokens to samples: S3Gen and the vocoder alone.

        Args:
            tokens: (T,) ids. Special tokens are dropped, and the model's closing silence is added.

        Returns:
            (960 * (T' + S),) float32 for T' speech tokens and S tokens of closing silence.
        """
        check_range("seed", seed, 0, 2**64 - 1)

        def work() -> np.ndarray:
            noise = NoiseSource(mx.random.key(seed))
            renderer = TokenToWav(self._networks.s3gen, voice, noise, self.config.rendering)
            spoken = tokens[tokens < SPEECH_CODES].tolist()
            return np.concatenate(list(renderer.push(spoken, final=True)))

        return self._engine.run(work)

    def _generate(
        self,
        text: str,
        voice: Voice | None,
        clip: tuple[str | Path | np.ndarray | None, int | None, bool],
        watermark: bool,
        options: dict[str, Any],
    ) -> Speech:
        if watermark:
            perth.check_installed()
        segments = segments_of(text, options["segment_limit"])
        started = time.perf_counter()
        voice = self._voice(voice, *clip)
        clock = Clock({"voice": time.perf_counter() - started, "tokens": 0.0, "audio": 0.0})
        seed = resolve_seed(options["seed"])
        pieces = self._speak([(segments, voice)], seed, speaking_options(options), clock)
        speech = results.joined(text, list(pieces), seed, clock)
        return perth.mark(speech) if watermark else speech

    def _stream(
        self,
        text: str,
        voice: Voice | None,
        clip: tuple[str | Path | np.ndarray | None, int | None, bool],
        options: dict[str, Any],
    ) -> Iterator[AudioChunk]:
        segments = segments_of(text, options["segment_limit"])
        voice = self._voice(voice, *clip)
        seed = resolve_seed(options["seed"])
        pieces = self._speak([(segments, voice)], seed, speaking_options(options), Clock())
        return results.chunks_of(pieces)

    def _generate_batch(
        self,
        texts: Sequence[str],
        voice: Voice | None,
        voices: Sequence[Voice] | None,
        options: dict[str, Any],
    ) -> Iterator[Speech]:
        if voice is not None and voices is not None:
            raise VoiceError("give one voice for all texts, or voices, one for each, not both")
        each = [voice] * len(texts) if voices is None else list(voices)
        if len(each) != len(texts):
            raise VoiceError(f"there are {len(texts)} texts and {len(each)} voices; give as many")
        checked = [self._voice(one, None, None, True) for one in each]
        work = [
            (segments_of(text, options["segment_limit"]), one)
            for text, one in zip(texts, checked, strict=True)
        ]
        seed, clock = resolve_seed(options["seed"]), Clock()
        pieces = self._speak(work, seed, speaking_options(options), clock)
        return results.speeches(texts, pieces, seed, clock)

    def _generate_parts(
        self, text: str, voice: Voice | None, first: int, options: dict[str, Any]
    ) -> Iterator[Speech]:
        segments = segments_of(text, options["segment_limit"])
        check_range("first", first, 0, len(segments) - 1)
        voice = self._voice(voice, None, None, True)
        seed, clock = resolve_seed(options["seed"]), Clock()
        pieces = self._speak(
            [(segments, voice)], seed, speaking_options(options), clock, first=first
        )
        return results.parts(segments, pieces, seed, clock)

    def _options(self, kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options of a call: given by the caller, else by the model, else by ``options``."""
        return resolve(kind, given, defaults=self.config.generation)

    def _encode_text(self, text: str) -> list[int]:
        return self._loaded.tokenizer.encode(normalize_text(text))

    def _speak(
        self,
        work: Sequence[tuple[Sequence[Segment], Voice]],
        seed: int,
        options: SpeakingOptions,
        clock: Clock,
        *,
        first: int = 0,
    ) -> Iterator[Piece]:
        def steps() -> Steps[Piece]:
            scheduler = Scheduler(
                self._networks,
                self._encode_text,
                self._prefixes,
                options,
                clock,
                rendering=self.config.rendering,
            )
            try:
                yield from scheduler.run(tasks_of(work, seed, first))
            finally:
                scheduler.close()

        return self._engine.stream(steps)

    def _voice(
        self,
        voice: Voice | None,
        clip: str | Path | np.ndarray | None,
        sample_rate: int | None,
        normalize_loudness: bool,
    ) -> Voice:
        """The voice of a call, checked against the model.

        Raises:
            VoiceError: none or two are given, or the voice is of another kind of model.
        """
        if voice is not None and clip is not None:
            raise VoiceError("give a voice or a reference clip (ref_audio), not both")
        if clip is not None:
            return self.encode_voice(
                clip, sample_rate=sample_rate, normalize_loudness=normalize_loudness
            )
        voice = voice if voice is not None else self.builtin_voice
        if voice is None:
            raise VoiceError("give a voice or a reference clip (ref_audio) to speak with")
        if not isinstance(voice, Voice):
            raise VoiceError(
                f"the voice is a {type(voice).__name__}; give what encode_voice or Voice.load gives"
            )
        if voice.family != self._loaded.family:
            raise VoiceError(
                f"the voice was made for {voice.family!r} and the model is "
                f"{self._loaded.family!r}; make the voice again with this model"
            )
        t3, s3gen = self.config.t3, self.config.s3gen
        for name, array, size in (
            ("speaker_embedding", voice.speaker_embedding, t3.speaker_embedding),
            ("x_vector", voice.x_vector, s3gen.speaker_embedding),
            ("s3gen_prompt_mel", voice.s3gen_prompt_mel, s3gen.mels),
        ):
            if array.shape[-1] != size:
                raise VoiceError(
                    f"{name} of the voice has {array.shape[-1]} values where the model wants "
                    f"{size}; make the voice again with this model"
                )
        return voice


_SAMPLING = tuple(each.name for each in fields(SamplingOptions))
_SPEAKING = tuple(each.name for each in fields(SpeakingOptions))


def speaking_options(options: Mapping[str, Any]) -> SpeakingOptions:
    """The resolved options of a call as the scheduler takes them."""
    values = {name: options[name] for name in _SPEAKING if name in options}
    values["pauses"] = options["pauses"] or PauseOptions()
    sampling = SamplingOptions(**{name: options[name] for name in _SAMPLING if name in options})
    return SpeakingOptions(sampling=sampling, **values)
