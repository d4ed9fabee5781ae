"""Text and a voice in, speech out: the only place that sees every stage."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

from .audio.files import check_samples, load_audio
from .audio.resample import resample_soxr
from .config import (
    SAMPLE_RATE,
    SPEECH_CODES,
    ModelConfig,
)
from .errors import OptionError, VoiceError
from .loading import DEFAULT_MODEL, LoadedModel, load, resolve
from .noise import Draws
from .reference.encoder import encode
from .rendering import Renderer
from .speech import Speech
from .t3 import decoding
from .t3.sampling import SamplingOptions
from .text import normalize_text
from .voice import Voice

MAX_TOKENS = 1000
"""The reference's limit: 40 s of speech."""


class ChatterboxTurbo:
    """A loaded model. The voice is passed in; the model keeps none."""

    def __init__(self, loaded: LoadedModel):
        self._loaded = loaded
        self._networks = loaded.networks

    @classmethod
    def from_pretrained(
        cls, model: str | Path = DEFAULT_MODEL, *, dtype: mx.Dtype | None = None
    ) -> ChatterboxTurbo:
        """Load a model.

        Args:
            model: a folder, a Hub id, or ``"tiny"``: a few megabytes of untrained weights, made on
                the spot, that turn text into noise and need no network.
            dtype: of the arithmetic; by default float16 on a GPU and float32 on the CPU.

        Raises:
            ModelFolderError: the folder is absent, damaged or of another kind.
            DownloadError: the Hub does not answer or does not know the name.
        """
        return cls(load(resolve(model), dtype=dtype))

    @property
    def config(self) -> ModelConfig:
        """Every size of the model."""
        return self._loaded.config

    @property
    def trained(self) -> bool:
        """Whether the weights are more than random numbers."""
        return self._loaded.trained

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
        """
        if isinstance(clip, np.ndarray):
            if sample_rate is None:
                raise OptionError("samples need their sample_rate; pass it with the array")
            samples = check_samples(clip, "the reference clip")
            samples = resample_soxr(samples, sample_rate, SAMPLE_RATE)
        else:
            samples = load_audio(clip, sample_rate=SAMPLE_RATE)
        return encode(
            samples,
            s3_tokenizer=self._networks.s3tokenizer,
            voice_encoder=self._networks.ve,
            speaker_encoder=self._networks.s3gen.speaker_encoder,
            prompt_tokens=self.config.t3.prompt_tokens,
            normalize=normalize_loudness,
            family=self._loaded.family,
        )

    def generate(
        self,
        text: str,
        *,
        voice: Voice | None = None,
        ref_audio: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        seed: int | None = None,
        temperature: float = 0.8,
        top_k: int = 1000,
        top_p: float = 0.95,
        repetition_penalty: float = 1.2,
        max_tokens: int = MAX_TOKENS,
        normalize_loudness: bool = True,
    ) -> Speech:
        """Speak ``text``.

        Args:
            voice: who speaks; or ``ref_audio`` (with ``sample_rate`` for an array), a clip to make
                the voice of. Exactly one of the two.
            seed: the same seed gives the same audio; drawn and reported when absent.
            max_tokens: at most so many speech tokens, 25 per second.

        Raises:
            TextError: the text is empty or too long.
            AudioError: the clip cannot be used.
            VoiceError: no voice, or one of another model family.
            OptionError: an option is out of its range.
        """
        options = SamplingOptions(
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
        )
        limit = self._most_tokens(max_tokens)
        seed = _checked_seed(seed)
        spoken = normalize_text(text)
        ids = self._loaded.tokenizer.encode(spoken)
        started = time.perf_counter()
        voice = self._voice(voice, ref_audio, sample_rate, normalize_loudness)
        encoded = time.perf_counter()
        decode_key, render_key = mx.random.split(mx.random.key(seed))
        tokens = np.fromiter(
            decoding.generate(
                self._networks.t3,
                mx.array(ids),
                mx.array(voice.speaker_embedding),
                mx.array(voice.t3_prompt_tokens),
                key=decode_key,
                options=options,
                max_tokens=limit,
            ),
            np.int32,
        )
        decoded = time.perf_counter()
        audio = self.render(tokens, voice=voice, draws=Draws(render_key))
        return Speech(
            audio=audio,
            text=spoken,
            tokens=tokens,
            seed=seed,
            seconds={
                "voice": encoded - started,
                "tokens": decoded - encoded,
                "audio": time.perf_counter() - decoded,
            },
        )

    def render(self, tokens: np.ndarray, *, voice: Voice, draws: Draws) -> np.ndarray:
        """Speech tokens to samples.

        Args:
            tokens: (T,) ids; special ones are dropped, and three of silence are put after them.

        Returns:
            (960 * (T' + 3),) float32, T' the tokens that are speech.
        """
        renderer = Renderer(self._networks.s3gen, voice, draws)
        spoken = tokens[tokens < SPEECH_CODES].tolist()
        return np.concatenate(list(renderer.push(spoken, final=True)))

    def _most_tokens(self, max_tokens: int) -> int:
        if not 1 <= max_tokens <= MAX_TOKENS:
            raise OptionError(f"max_tokens is {max_tokens}; choose 1 to {MAX_TOKENS}")
        return max_tokens

    def _voice(
        self,
        voice: Voice | None,
        clip: str | Path | np.ndarray | None,
        sample_rate: int | None,
        normalize_loudness: bool,
    ) -> Voice:
        if (voice is None) == (clip is None):
            raise VoiceError("give a voice or a reference clip (ref_audio), one of the two")
        if voice is None:
            assert clip is not None
            return self.encode_voice(
                clip, sample_rate=sample_rate, normalize_loudness=normalize_loudness
            )
        if voice.family != self._loaded.family:
            raise VoiceError(
                f"the voice was made for {voice.family!r} and the model is "
                f"{self._loaded.family!r}; make the voice again with this model"
            )
        return voice


def _checked_seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbits(32)
    if not 0 <= seed < 2**64:
        raise OptionError(f"seed is {seed}; choose a number from 0 to 2**64 - 1")
    return seed
