"""Text and a voice in, speech out: the only place that sees every stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from ..audio import watermark as perth
from ..audio.clip_reader import RATES
from ..audio.files import check_samples, load_audio
from ..audio.resample import resample_soxr
from ..config import SAMPLE_RATE, SPEECH_CODES, ModelConfig
from ..encoders.reference_clip import encode
from ..errors import OptionError, VoiceError
from ..loading.folder import DEFAULT_MODEL, LoadedModel, load, resolve
from ..options import chosen_seed, within
from ..speech import AudioChunk, Speech
from ..synthesis import results as speeches
from ..synthesis.engine import Engine, Steps, default_cache_limit
from ..synthesis.noise import Draws
from ..synthesis.scheduler import MAX_TOKENS, Clock, Piece, Speaker, SpeakingOptions
from ..synthesis.token_to_wav import ChunkOptions, Renderer
from ..synthesis.watchdog import TrimOptions, WatchdogOptions
from ..t3.prefix_cache import PrefixCache
from ..t3.sampling import SamplingOptions
from ..text.segments import LIMIT, PauseOptions, Segment
from ..text.tokenizer import normalize_text
from ..voice import Voice

WATCHDOG = WatchdogOptions()


class ChatterboxTurbo:
    """A loaded model. The voice is passed in; the model keeps none.

    It may be called from any number of threads: all work runs on one thread of its own, and
    requests take turns there.
    """

    def __init__(self, loaded: LoadedModel, engine: Engine):
        self._loaded, self._engine = loaded, engine
        self._networks = loaded.networks
        self._prefixes = PrefixCache(loaded.networks.t3)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = DEFAULT_MODEL,
        *,
        revision: str | None = None,
        dtype: mx.Dtype | None = None,
        cache_limit: int | None = None,
    ) -> ChatterboxTurbo:
        """Load a model; without arguments the official one, which is downloaded and converted once.

        Args:
            model: a folder, a Hub id, or ``"tiny"``: a few megabytes of untrained weights, made on
                the spot, that turn text into noise and need no network.
            revision: commit of a Hub repository.
            dtype: of the arithmetic; by default float16 on a GPU and float32 on the CPU.
            cache_limit: bytes that MLX may keep of freed buffers while this model works, by
                default 512 MiB on a GPU and 128 MiB on the CPU; the process's own limit holds
                otherwise.

        Raises:
            ModelFolderError: the folder is absent, damaged or of another kind.
            DownloadError: the Hub does not answer or does not know the name.
        """
        engine = Engine(cache_limit=default_cache_limit() if cache_limit is None else cache_limit)
        try:
            loaded = engine.run(lambda: load(resolve(model, revision=revision), dtype=dtype))
            engine.run(mx.clear_cache)  # what loading has freed is of no size that speaking wants
            return cls(loaded, engine)
        except BaseException:
            engine.close()
            raise

    @property
    def config(self) -> ModelConfig:
        """Every size of the model."""
        return self._loaded.config

    @property
    def family(self) -> str:
        """Which voices it can speak with."""
        return self._loaded.family

    @property
    def trained(self) -> bool:
        """Whether the weights are more than random numbers."""
        return self._loaded.trained

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever converted the model wants its users to know."""
        return self._loaded.notes

    @property
    def builtin_voice(self) -> Voice | None:
        """Who speaks when neither a voice nor a clip is given; most folders have nobody."""
        return self._loaded.builtin_voice

    @property
    def tags(self) -> tuple[str, ...]:
        """What the model can do besides speaking, as it is written in the text: ``[laugh]`` …"""
        return self._loaded.tokenizer.tags

    def encode_voice(
        self,
        clip: str | Path | np.ndarray,
        *,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
    ) -> Voice:
        """Make a voice of a clip.

        Args:
            clip: an audio file, or (samples,) or (samples, channels) floats with ``sample_rate``.
                More than 5 s; 10 to 15 s of one clean speaker is best.
            normalize_loudness: bring the clip to -27 LUFS first, as the model was trained.

        Raises:
            AudioError: the clip cannot be read, is silent, not finite, or 5 s or shorter.
            VoiceError: the model's folder lacks a network that hears clips.
        """
        for network, reason in self._loaded.missing.items():
            raise VoiceError(f"this model cannot make voices: it has no {network}, {reason}")
        if isinstance(clip, np.ndarray):
            if sample_rate is None:
                raise OptionError("samples need their sample_rate; pass it with the array")
            within("sample_rate", sample_rate, *RATES)
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
                prompt_tokens=self.config.t3.prompt_tokens,
                normalize=normalize_loudness,
                family=self._loaded.family,
            )
        )

    def generate(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        ref_audio: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
        seed: int | None = None,
        temperature: float = 0.8,
        top_k: int = 1000,
        top_p: float = 0.95,
        repetition_penalty: float = 1.2,
        max_tokens: int = MAX_TOKENS,
        segment_limit: int = LIMIT,
        pauses: PauseOptions | None = None,
        trim: TrimOptions | None = None,
        watchdog: WatchdogOptions | None = WATCHDOG,
        retries: int = 2,
        batch_size: int = 4,
        watermark: bool = False,
    ) -> Speech:
        """Speak ``text``, however long.

        Args:
            voice: who speaks; or ``ref_audio`` (with ``sample_rate`` for an array), a clip to make
                the voice of. One of the two, where the model has no voice built in.
            seed: the same seed gives the same audio; drawn and reported when absent.
            temperature, top_k, top_p, repetition_penalty: see ``SamplingOptions``.
            max_tokens: at most so many speech tokens for a segment, 25 per second.
            segment_limit: longer text is spoken in segments of at most so many characters.
            pauses: silence between segments.
            trim: cut noise and silence after the speech; by default the tokens set the length.
            watchdog: when a segment counts as run astray; None never. It is then drawn again, up
                to ``retries`` times, or ended where it went astray, and ``Speech.notes`` says so.
            batch_size: how many segments of a long text are decoded together.
            watermark: mark the audio with Perth, as the reference does (extra ``watermark``).

        Raises:
            TextError: the text is empty.
            AudioError: the clip cannot be used.
            VoiceError: no voice, or one of another model family.
            OptionError: an option is out of its range.
            ExtraError: a watermark is asked for and resemble-perth is not installed.
        """
        if watermark:
            perth.check_installed()
        options = SpeakingOptions(
            sampling=SamplingOptions(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
            ),
            max_tokens=max_tokens,
            pauses=pauses or PauseOptions(),
            trim=trim,
            watchdog=watchdog,
            retries=retries,
            batch_size=batch_size,
        )
        seed = chosen_seed(seed)
        segments = speeches.segments_of(text, segment_limit)
        started = time.perf_counter()
        voice = self._voice(voice, ref_audio, sample_rate, normalize_loudness)
        clock = Clock({"voice": time.perf_counter() - started, "tokens": 0.0, "audio": 0.0})
        pieces = self._speak([(segments, voice)], seed, options, clock)
        speech = speeches.joined(text, list(pieces), seed, clock)
        return perth.mark(speech) if watermark else speech

    def stream(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        ref_audio: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
        seed: int | None = None,
        temperature: float = 0.8,
        top_k: int = 1000,
        top_p: float = 0.95,
        repetition_penalty: float = 1.2,
        max_tokens: int = MAX_TOKENS,
        segment_limit: int = LIMIT,
        pauses: PauseOptions | None = None,
        trim: TrimOptions | None = None,
        watchdog: WatchdogOptions | None = WATCHDOG,
        retries: int = 2,
        chunks: ChunkOptions | None = None,
    ) -> Iterator[AudioChunk]:
        """Speak ``text`` and give the audio as it comes; the last chunk says so.

        The arguments are those of :meth:`generate`, and ``chunks`` says how an utterance is cut.
        Mistakes are raised by the call, before the first chunk. The model works ahead of the
        caller by a few chunks; closing the iterator ends the work. A segment that runs astray is
        drawn again only while none of it has been given, and what was given is never trimmed.
        """
        options = SpeakingOptions(
            sampling=SamplingOptions(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
            ),
            max_tokens=max_tokens,
            chunks=chunks or ChunkOptions(),
            pauses=pauses or PauseOptions(),
            trim=trim,
            watchdog=watchdog,
            retries=retries,
        )
        seed = chosen_seed(seed)
        segments = speeches.segments_of(text, segment_limit)
        voice = self._voice(voice, ref_audio, sample_rate, normalize_loudness)
        pieces = self._speak([(segments, voice)], seed, options, Clock())
        return speeches.chunks_of(pieces)

    def generate_batch(
        self,
        texts: Sequence[str],
        *,
        voice: Voice | None = None,
        voices: Sequence[Voice] | None = None,
        seed: int | None = None,
        temperature: float = 0.8,
        top_k: int = 1000,
        top_p: float = 0.95,
        repetition_penalty: float = 1.2,
        max_tokens: int = MAX_TOKENS,
        segment_limit: int = LIMIT,
        pauses: PauseOptions | None = None,
        trim: TrimOptions | None = None,
        watchdog: WatchdogOptions | None = WATCHDOG,
        retries: int = 2,
        batch_size: int = 8,
    ) -> Iterator[Speech]:
        """Speak many texts, up to ``batch_size`` segments at a time; results come in order.

        Each text is what :meth:`generate` would make of it alone with the same seed.

        Args:
            voice: who speaks all of them; or ``voices``, one for each text.

        Raises:
            The errors of :meth:`generate`, by the call.
        """
        options = SpeakingOptions(
            sampling=SamplingOptions(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
            ),
            max_tokens=max_tokens,
            pauses=pauses or PauseOptions(),
            trim=trim,
            watchdog=watchdog,
            retries=retries,
            batch_size=batch_size,
        )
        if voice is not None and voices is not None:
            raise VoiceError("give one voice for all texts, or voices, one for each, not both")
        given = [voice] * len(texts) if voices is None else list(voices)
        if len(given) != len(texts):
            raise VoiceError(f"there are {len(texts)} texts and {len(given)} voices; give as many")
        speakers = [self._voice(each, None, None, True) for each in given]
        work = [
            (speeches.segments_of(text, segment_limit), speaker)
            for text, speaker in zip(texts, speakers, strict=True)
        ]
        seed, clock = chosen_seed(seed), Clock()
        return speeches.speeches(texts, self._speak(work, seed, options, clock), seed, clock)

    def generate_parts(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        seed: int | None = None,
        temperature: float = 0.8,
        top_k: int = 1000,
        top_p: float = 0.95,
        repetition_penalty: float = 1.2,
        max_tokens: int = MAX_TOKENS,
        segment_limit: int = LIMIT,
        pauses: PauseOptions | None = None,
        trim: TrimOptions | None = None,
        watchdog: WatchdogOptions | None = WATCHDOG,
        retries: int = 2,
        batch_size: int = 4,
        first: int = 0,
    ) -> Iterator[Speech]:
        """What :meth:`generate` joins: a part for each segment of ``pack(text)``, as it is ready.

        A book needs no memory that way, and can be gone on with after a halt.

        Args:
            first: leave out so many parts; the others are as they would be after them.

        Raises:
            The errors of :meth:`generate`, by the call.
        """
        options = SpeakingOptions(
            sampling=SamplingOptions(
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
            ),
            max_tokens=max_tokens,
            pauses=pauses or PauseOptions(),
            trim=trim,
            watchdog=watchdog,
            retries=retries,
            batch_size=batch_size,
        )
        seed, clock = chosen_seed(seed), Clock()
        segments = speeches.segments_of(text, segment_limit)
        first = within("first", first, 0, len(segments) - 1)
        voice = self._voice(voice, None, None, True)
        pieces = self._speak([(segments, voice)], seed, options, clock, first=first)
        return speeches.parts(segments, pieces, seed, clock)

    def render(self, tokens: np.ndarray, *, voice: Voice, seed: int = 0) -> np.ndarray:
        """Speech tokens to samples: S3Gen and the vocoder alone.

        Args:
            tokens: (T,) ids; special ones are dropped, and three of silence are put after them.

        Returns:
            (960 * (T' + 3),) float32, T' the tokens that are speech.
        """
        return self._engine.run(
            lambda: self._render(tokens, voice, Draws(mx.random.key(chosen_seed(seed))))
        )

    def _render(self, tokens: np.ndarray, voice: Voice, draws: Draws) -> np.ndarray:
        renderer = Renderer(self._networks.s3gen, voice, draws)
        spoken = tokens[tokens < SPEECH_CODES].tolist()
        return np.concatenate(list(renderer.push(spoken, final=True)))

    def _speak(
        self,
        work: Sequence[tuple[Sequence[Segment], Voice]],
        seed: int,
        options: SpeakingOptions,
        clock: Clock,
        *,
        first: int = 0,
    ) -> Iterator[Piece]:
        def encode_text(text: str) -> list[int]:
            return self._loaded.tokenizer.encode(normalize_text(text))

        def steps() -> Steps[Piece]:
            speaker = Speaker(self._networks, encode_text, self._prefixes, options, clock)
            try:
                yield from speaker.speak(speeches.tasks_of(work, seed, first))
            finally:
                speaker.close()

        return self._engine.stream(steps)

    def _voice(
        self,
        voice: Voice | None,
        clip: str | Path | np.ndarray | None,
        sample_rate: int | None,
        normalize_loudness: bool,
    ) -> Voice:
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
