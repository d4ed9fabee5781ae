"""Turbo's T3: speaker, prompt and text in; logits of speech tokens out.

One sequence with one position table: the speaker's row, the prompt's tokens, the text, the start
token, then speech. Dimensions: B batch, T time, P prompt tokens, C width, V speech ids.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from .. import ops
from ..config import START_SPEECH, Quantization, T3Config
from ..errors import OptionError
from ..ops import compiled
from ..options import SamplingOptions
from .cache import KeyValueCache
from .gpt2 import GPT2
from .gpt2_numpy import gpt2_forward
from .interface import Condition, Forward, SpeechRows
from .sampling import repetition_penalty, temperature, top_k, top_p
from .transformer_numpy import Rows, takes_numpy

logger = logging.getLogger("mlx_audio_turbo")


class ConditionEncoder(nn.Module):
    """Speaker embedding to one row of the sequence."""

    def __init__(self, config: T3Config):
        super().__init__()
        self.spkr_enc = nn.Linear(config.speaker_embedding, config.width)


class TurboT3(nn.Module):
    """The language model from text to speech tokens (25 per second)."""

    filters = (temperature, top_k, top_p, repetition_penalty)
    invalid_ids = ()

    def __init__(self, config: T3Config):
        super().__init__()
        self._config = config
        self.cond_enc = ConditionEncoder(config)
        self.text_emb = nn.Embedding(config.text_vocabulary, config.width)
        self.speech_emb = nn.Embedding(config.speech_vocabulary, config.width)
        self.tfmr = GPT2(config)
        self.speech_head = nn.Linear(config.width, config.speech_vocabulary)

    @property
    def config(self) -> T3Config:
        """The sizes that this model was made with."""
        return self._config

    @property
    def _dtype(self) -> mx.Dtype:
        """The type of the arithmetic; tables and matrices may be stored in another."""
        return self.tfmr.ln_f.weight.dtype

    @property
    def speech_vocabulary(self) -> int:
        """V, the number of speech ids."""
        return self._config.speech_vocabulary

    def rows(self, options: SamplingOptions) -> int:
        """One: there is no guidance."""
        return 1

    def room(self, prefix: int, text_ids: mx.array) -> int:
        """How many speech tokens the position table leaves after prefix and text.

        Raises:
            OptionError: not even one.
        """
        taken, positions = prefix + text_ids.size, self._config.positions
        if taken >= positions:
            raise OptionError(
                f"voice and text take {taken} of {positions} positions; shorten the text"
            )
        return positions - taken

    def prefix(self, condition: Condition) -> mx.array:
        """Embeddings (B, 1 + P, C) of the speaker and the prompt tokens."""
        row = self.cond_enc.spkr_enc(condition.speaker.astype(self._dtype))[:, None]
        return mx.concatenate([row, self.embed_speech(condition.prompt_tokens)], axis=1)

    def embed_input(self, text_ids: mx.array, rows: int = 1) -> mx.array:
        """Embeddings (1, T + 1, C) of text ids (T,) and the start token."""
        text, start = self.text_emb(text_ids), self.speech_emb(mx.array([START_SPEECH]))
        return mx.concatenate([text, start])[None].astype(self._dtype)

    def embed_speech(self, ids: mx.array, positions: mx.array | None = None) -> mx.array:
        """Embeddings (B, T, C) of speech ids (B, T); the transformer adds the positions."""
        return self.speech_emb(ids).astype(self._dtype)

    def speech_rows(self) -> SpeechRows:
        """:meth:`embed_speech` in NumPy."""
        rows = Rows(self.speech_emb)
        return lambda ids, positions: rows(ids)

    def make_cache(self) -> KeyValueCache:
        """An empty cache."""
        return KeyValueCache(self._config.layers)

    def make_forward(self) -> Forward:
        """The form for the device that runs new work."""
        if ops.on_gpu():
            return partial(mlx_forward, self)
        if self.reads_stored():
            from ..ops.compiled.panels import kept  # imports numba

            try:
                if (form := kept(self, _compiled_form)) is not None:
                    return form
            except compiled.CannotCompileError as error:
                logger.info(f"T3 computes without compiled kernels: {error}")
        if takes_numpy(self.tfmr, self.speech_emb, self.speech_head):
            return gpt2_forward(self.tfmr, self.speech_head, self._config)
        return partial(mlx_forward, self)

    def reads_stored(self) -> bool:
        """Whether compiled kernels take a model of these sizes."""
        if not compiled.available():
            return False
        from .gpt2_compiled import fits

        return fits(self._config)

    def start_compiling(
        self, quantization: Quantization | None, floats: str, *, keep: bool = False
    ) -> None:
        """Compile the kernels for weights of this kind while they are loaded."""
        from .transformer_compiled import start_compiling

        start_compiling(quantization, floats, keep=keep)

    def __call__(
        self,
        embeddings: mx.array,
        *,
        cache: KeyValueCache | None = None,
        positions: mx.array | None = None,
        mask: mx.array | None = None,
    ) -> mx.array:
        """Hidden states (B, T, C) of ``embeddings`` (B, T, C); arguments as in :class:`GPT2`."""
        return self.tfmr(embeddings, cache=cache, positions=positions, mask=mask)

    def logits(self, hidden: mx.array) -> mx.array:
        """Float32 logits (..., V) of the speech token that follows ``hidden`` (..., C)."""
        return self.speech_head(hidden).astype(mx.float32)


def _compiled_form(model: TurboT3) -> Forward | None:
    """The kernels' form; None where they do not take the model."""
    from .gpt2_compiled import CompiledForward, takes

    parts = model.tfmr, model.speech_head, model.config
    return CompiledForward(*parts) if takes(*parts) else None


def mlx_forward(
    model: TurboT3, x: mx.array, cache: KeyValueCache, lengths: Sequence[int]
) -> mx.array:
    """A :data:`~.interface.Forward` through the network, lazily."""
    offset, time = cache.offset, x.shape[1]
    positions = mask = None
    if min(lengths) < offset:
        own = mx.array(list(lengths))[:, None]
        positions = own + mx.arange(time)
        key, query = mx.arange(offset + time), mx.arange(offset, offset + time)[:, None]
        mask = ((key >= (offset - own)[..., None]) & (key <= query))[:, None]
    hidden = model(x, cache=cache, positions=positions, mask=mask)
    return model.logits(hidden[:, -1])
