"""The original's T3: a Llama over speaker, prompt, emotion, text and speech.

One sequence, [speaker | perceiver of the prompt | emotion | text | start | start | speech], with
rotary positions over all of it; text and speech have learned positions of their own beside. This
module imports mlx-lm and is itself imported only where such a model is built.

Dimensions: B utterances, R cache rows per utterance, T time, P prompt tokens, Q perceiver queries,
C width, V speech ids.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.llama import LlamaModel, ModelArgs

from .. import ops
from ..config import START_SPEECH, STOP_SPEECH, OriginalT3Config, Quantization
from ..errors import ModelFolderError, OptionError
from ..ops import compiled
from ..options import SamplingOptions
from .cache import KeyValueCache
from .interface import Condition, Forward, SpeechRows
from .llama_cache import LlamaCache
from .llama_numpy import llama_forward
from .perceiver import Perceiver
from .sampling import min_p, repetition_penalty, temperature, top_p
from .transformer_numpy import Rows, takes_numpy

logger = logging.getLogger("mlx_audio_turbo")


class LearnedPositions(nn.Module):
    """A table of positions that is added to embeddings."""

    def __init__(self, count: int, width: int):
        super().__init__()
        self.emb = nn.Embedding(count, width)

    def __call__(self, positions: mx.array) -> mx.array:
        return self.emb(positions)


class ConditionEncoder(nn.Module):
    """Speaker, prompt and exaggeration to 1 + Q + 1 rows of the sequence."""

    def __init__(self, config: OriginalT3Config):
        super().__init__()
        self.spkr_enc = nn.Linear(config.speaker_embedding, config.width)
        self.perceiver = Perceiver(config)
        self.emotion_adv_fc = nn.Linear(1, config.width, bias=False)

    def __call__(self, speaker: mx.array, prompt: mx.array, exaggeration: float) -> mx.array:
        """(1, 1 + Q + 1, C) of ``speaker`` (1, 256) and the embedded ``prompt`` (1, P, C)."""
        emotion = exaggeration * self.emotion_adv_fc.weight.T
        rows = [self.spkr_enc(speaker)[:, None], self.perceiver(prompt), emotion[None]]
        return mx.concatenate(rows, axis=1)


class OriginalT3(nn.Module):
    """The language model from text to speech tokens (25 per second)."""

    filters = (repetition_penalty, temperature, min_p, top_p)

    def __init__(self, config: OriginalT3Config):
        super().__init__()
        self._config = config
        self.cond_enc = ConditionEncoder(config)
        self.text_emb = nn.Embedding(config.text_vocabulary, config.width)
        self.speech_emb = nn.Embedding(config.speech_vocabulary, config.width)
        self.text_pos_emb = LearnedPositions(config.text_positions, config.width)
        self.speech_pos_emb = LearnedPositions(config.speech_positions, config.width)
        self.tfmr = LlamaModel(_llama_args(config))
        self.tfmr.pop("embed_tokens")  # its input is embeddings
        self.speech_head = nn.Linear(config.width, config.speech_vocabulary, bias=False)

    @property
    def config(self) -> OriginalT3Config:
        """The sizes that this model was made with."""
        return self._config

    @property
    def _dtype(self) -> mx.Dtype:
        """The type of the arithmetic; tables and matrices may be stored in another."""
        return self.tfmr.norm.weight.dtype

    @property
    def speech_vocabulary(self) -> int:
        """V, the number of speech ids."""
        return self._config.speech_vocabulary

    @property
    def invalid_ids(self) -> Sequence[int]:
        """The start token, and the ids above the stop token, which S3Gen does not know."""
        return [START_SPEECH, *range(STOP_SPEECH + 1, self._config.speech_vocabulary)]

    def rows(self, options: SamplingOptions) -> int:
        """Two with guidance, one without."""
        return 2 if options.cfg_weight > 0 else 1

    def room(self, prefix: int, text_ids: mx.array) -> int:
        """How many speech tokens the position table takes; the last one is not fed back.

        Raises:
            OptionError: the text with its start and stop id is longer than its position table.
            ModelFolderError: an id is outside of the text table.
        """
        config, count = self._config, text_ids.size + 2
        if count > config.text_positions:
            raise OptionError(
                f"the text has {count} ids and the model takes {config.text_positions}; "
                "shorten the text"
            )
        largest = max(cast(list[int], text_ids.tolist()), default=0)
        if largest >= config.text_vocabulary:
            raise ModelFolderError(
                f"the tokenizer gives the id {largest} and the text table has "
                f"{config.text_vocabulary} rows; convert the model again"
            )
        return config.speech_positions

    def prefix(self, condition: Condition) -> mx.array:
        """Embeddings (1, 1 + Q + 1, C) of speaker, prompt tokens and exaggeration."""
        tokens = condition.prompt_tokens
        prompt = self.embed_speech(tokens, mx.arange(tokens.shape[1]))
        speaker = condition.speaker.astype(prompt.dtype)
        return self.cond_enc(speaker, prompt, condition.exaggeration)

    def embed_input(self, text_ids: mx.array, rows: int = 1) -> mx.array:
        """Embeddings (R, T + 4, C) of text ids (T,) between start and stop, and two start tokens.

        The second row, for guidance, has the positions of the text and no text.
        """
        config = self._config
        start, stop = mx.array([config.start_text]), mx.array([config.stop_text])
        text = self.text_emb(mx.concatenate([start, text_ids, stop])).astype(self._dtype)
        positions = self.text_pos_emb(mx.arange(len(text))).astype(self._dtype)
        begin = self.embed_speech(mx.array([START_SPEECH, START_SPEECH]), mx.array([0, 0]))
        texts = [text + positions, positions][:rows]
        return mx.stack([mx.concatenate([each, begin]) for each in texts])

    def embed_speech(self, ids: mx.array, positions: mx.array) -> mx.array:
        """Embeddings (..., C) of speech ids (...), with those of their ``positions``."""
        tables = self.speech_emb(ids), self.speech_pos_emb(positions)
        speech, place = (each.astype(self._dtype) for each in tables)
        return speech + place

    def speech_rows(self) -> SpeechRows:
        """:meth:`embed_speech` in NumPy."""
        speech, places = Rows(self.speech_emb), Rows(self.speech_pos_emb.emb)
        return lambda ids, positions: speech(ids) + places(positions)

    def make_cache(self) -> KeyValueCache | LlamaCache:
        """An empty cache, of the form's own kind."""
        return (LlamaCache if self._host_form() is None else KeyValueCache)(self._config.layers)

    def make_forward(self) -> Forward:
        """The form for the device that runs new work."""
        make = self._host_form()
        return partial(mlx_forward, self) if make is None else make()

    def reads_stored(self) -> bool:
        """Whether compiled kernels take a model of these sizes."""
        if not compiled.available():
            return False
        from .llama_compiled import fits  # imports numba

        return fits(self._config)

    def start_compiling(
        self, quantization: Quantization | None, floats: str, *, keep: bool = False
    ) -> None:
        """Compile the kernels for weights of this kind while they are loaded."""
        from .transformer_compiled import start_compiling

        start_compiling(quantization, floats, keep=keep)

    def _host_form(self) -> Callable[[], Forward] | None:
        """What makes the CPU's own form; None where MLX computes."""
        if ops.on_gpu():
            return None
        parts = self.tfmr, self.speech_head, self._config
        if self.reads_stored():
            from ..ops.compiled.panels import kept

            try:
                if (form := kept(self, _compiled_form)) is not None:
                    return lambda: form
            except compiled.CannotCompileError as error:
                logger.info(f"T3 computes without compiled kernels: {error}")
        if takes_numpy(self.tfmr, self.speech_emb, self.speech_head):
            return partial(llama_forward, *parts)
        return None

    def __call__(self, embeddings: mx.array, *, cache: LlamaCache | None = None) -> mx.array:
        """Hidden states (B, T, C), after the last norm, of ``embeddings`` (B, T, C).

        Args:
            cache: the positions before; it grows. mlx-lm's own, also where :meth:`make_cache` makes
                another.
        """
        layers = None if cache is None else cache.layers
        return self.tfmr(embeddings, cache=layers, input_embeddings=embeddings)

    def logits(self, hidden: mx.array) -> mx.array:
        """Float32 logits (..., V) of the speech token that follows ``hidden`` (..., C)."""
        return self.speech_head(hidden).astype(mx.float32)


def _compiled_form(model: OriginalT3) -> Forward | None:
    """The kernels' form; None where they do not take the model."""
    from .llama_compiled import CompiledForward, takes

    parts = model.tfmr, model.speech_head, model.config
    return CompiledForward(*parts) if takes(*parts) else None


def mlx_forward(
    model: OriginalT3, x: mx.array, cache: LlamaCache, lengths: Sequence[int]
) -> mx.array:
    """A :data:`~.interface.Forward` through the network, lazily."""
    # mlx-lm's caches know the padding of each row.
    return model.logits(model(x, cache=cache)[:, -1])


def _llama_args(config: OriginalT3Config) -> ModelArgs:
    scaling = config.rope_scaling
    return ModelArgs(
        model_type="llama",
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        intermediate_size=config.feed_forward,
        num_attention_heads=config.heads,
        head_dim=config.head_dim,
        rms_norm_eps=config.norm_eps,
        vocab_size=1,
        max_position_embeddings=config.text_positions + config.speech_positions,
        rope_theta=config.rope_theta,
        rope_scaling={
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_positions,
        },
        tie_word_embeddings=False,
    )
