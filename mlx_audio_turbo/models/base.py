"""What every model has: loading, its properties, voices, and tokens to samples."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar

import mlx.core as mx
import numpy as np
from typing_extensions import Self

from ..config import SPEECH_CODES, ModelConfig
from ..errors import ModelFolderError, OptionError, VoiceError
from ..loading import catalog
from ..loading.folder import LoadedModel, load
from ..options import RUN_OPTIONS, check_range, resolve
from ..synthesis.engine import Engine, default_cache_limit
from ..synthesis.noise import NoiseSource
from ..synthesis.pace import Pace, measure_pace
from ..synthesis.process import release_memory
from ..synthesis.tasks import Work
from ..synthesis.token_to_wav import TokenToWav
from ..voice import Voice
from .speaking import Speaking, speaking_options
from .voice_input import check_voice, encode_clip


def open_model(
    model: str | Path,
    *,
    revision: str | None,
    dtype: mx.Dtype | None,
    cache_limit: int | None,
    kinds: Collection[str],
    unused: Collection[str] = (),
) -> tuple[LoadedModel, Engine]:
    """Load a model on the thread of a new engine; the arguments of :meth:`Model.from_pretrained`.

    Args:
        kinds: the values of ``model_type`` that will do.
        unused: networks to leave out of memory.
    """
    engine = Engine(cache_limit=default_cache_limit() if cache_limit is None else cache_limit)
    try:
        loaded = engine.run(
            lambda: load(catalog.resolve(model, revision=revision), dtype=dtype, unused=unused)
        )
        if loaded.model_type not in kinds:
            raise ModelFolderError(
                f"{loaded.folder} holds a {loaded.model_type} model, not a {' or '.join(kinds)} "
                "one; load it with the class of that model, or give another folder"
            )
        engine.run(mx.clear_cache)  # the freed buffers of loading fit no later use
        return loaded, engine
    except BaseException:
        engine.close()
        raise


class OpenedModel:
    """A model folder in memory, and the thread that its work runs on."""

    def __init__(self, loaded: LoadedModel, engine: Engine):
        self._loaded, self._engine = loaded, engine

    def __del__(self) -> None:
        if not sys.is_finalizing():
            # The weights go first: only then is there memory to give back.
            self.__dict__.clear()
            release_memory()

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
        """The voice that is used where no other is given; most folders lack it."""
        return self._loaded.builtin_voice

    @property
    def voices(self) -> tuple[str, ...]:
        """The names of the voices that come with the model; see :meth:`load_voice`."""
        return tuple(self._loaded.voices)

    def load_voice(self, name: str) -> Voice:
        """A voice that comes with the model.

        Raises:
            VoiceError: the model has none of this name.
        """
        if name not in self._loaded.voices:
            known = f"choose one of {', '.join(self.voices)}" if self.voices else "it has none"
            raise VoiceError(f"the model has no voice {name!r}; {known}")
        return Voice.load(self._loaded.voices[name])


class Model(OpenedModel):
    """A loaded model. The voice is passed in; the model keeps none.

    It may be called from any number of threads: all work runs on one thread of its own, and
    requests take turns there.
    """

    MODEL_TYPE: ClassVar[str]
    """``model_type`` in the ``config.json`` of the folders that this class loads."""
    DEFAULT: ClassVar[str]
    """The Hub id of the official checkpoint."""

    def __init__(self, loaded: LoadedModel, engine: Engine):
        super().__init__(loaded, engine)
        self._networks = loaded.networks
        self._speaking = Speaking(loaded, engine, type(self)._encode_text)

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
            dtype: of the arithmetic; by default float16 on a GPU and float32 on the CPU. The
                vocoder has float32 always; bfloat16 is T3's, beside float16 in other networks.
            cache_limit: bytes that MLX may keep of freed buffers while this model works, by
                default 32 MiB on the CPU and on a GPU an eighth of its memory, 512 MiB to 2 GiB.
                The process's own limit is restored between steps.

        Raises:
            ModelFolderError: the folder is absent, damaged or of another kind.
            DownloadError: the Hub does not answer or does not know the name.
        """
        name = cls.DEFAULT if model is None else model
        loaded, engine = open_model(
            name, revision=revision, dtype=dtype, cache_limit=cache_limit, kinds=(cls.MODEL_TYPE,)
        )
        return cls(loaded, engine)

    @property
    def work(self) -> Work:
        """Tokens, steps and seconds of all calls so far; for measuring."""
        return self._speaking.work

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the model performs in the text, such as ``[laugh]``."""
        return self._loaded.tokenizer.tags

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that the model speaks."""
        return self._loaded.tokenizer.languages or ("en",)

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
        return self._engine.run(
            encode_clip(self._loaded, clip, sample_rate=sample_rate, normalize=normalize_loudness)
        )

    def render(self, tokens: np.ndarray, *, voice: Voice, seed: int = 0) -> np.ndarray:
        """Speech tokens to samples: S3Gen and the vocoder alone.

        Args:
            tokens: (T,) ids. Special tokens are dropped, and the model's closing silence is added.

        Returns:
            (960 * (T' + S),) float32 for T' speech tokens and S tokens of closing silence.

        Raises:
            OptionError: ``tokens`` are not ids.
            VoiceError: a voice of another kind of model.
        """
        check_range("seed", seed, 0, 2**64 - 1)
        check_voice(voice, self._loaded)
        tokens = np.asarray(tokens)
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or (tokens < 0).any():
            raise OptionError(
                f"tokens are {tokens.dtype} of shape {tokens.shape}; "
                "give whole numbers from 0 up, of shape (T,)"
            )

        def work() -> np.ndarray:
            noise = NoiseSource(mx.random.key(seed))
            renderer = TokenToWav(self._networks.s3gen, voice, noise, self.config.rendering)
            spoken = tokens[tokens < SPEECH_CODES].tolist()
            return np.concatenate(list(renderer.push(spoken, final=True)))

        return self._engine.run(work)

    def measure_pace(self, voice: Voice | None = None) -> Pace:
        """Measure how fast the model speaks here, for ``stream(chunks=pace.chunks())``.

        It takes a few seconds on a CPU, in which no other call goes on. How long the voice's
        prompt is counts, the sound does not.

        Raises:
            VoiceError: no voice, or one of another kind of model.
        """
        checked, config = self._voice(voice), self.config
        options = speaking_options(self._options(RUN_OPTIONS[type(self).__name__], {}))
        return self._engine.run(
            lambda: measure_pace(self._networks, checked, config.rendering, options)
        )

    def _options(self, kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options of a call: given by the caller, else by the model, else by ``options``.

        Raises:
            OptionError: an unknown option, a wrong value, or a language that is not spoken.
            ExtraError: a library that the language needs is not installed.
        """
        options = resolve(kind, given, defaults=self.config.generation)
        self._loaded.tokenizer.check_language(options.get("language"))
        return options

    @staticmethod
    def _encode_text(loaded: LoadedModel, text: str, options: Mapping[str, Any]) -> list[int]:
        """The ids of a segment, given the options of the call."""
        tokenizer = loaded.tokenizer
        return tokenizer.encode(tokenizer.normalize(text), options.get("language"))

    def _voice(
        self,
        voice: Voice | None,
        clip: str | Path | np.ndarray | None = None,
        sample_rate: int | None = None,
        normalize_loudness: bool = True,
    ) -> Voice:
        """The voice of a call: given, made of a clip, or built in.

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
        check_voice(voice, self._loaded)
        return voice
