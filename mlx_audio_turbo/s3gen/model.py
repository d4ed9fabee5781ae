"""Speech tokens and a voice to mel: encoder, estimator and solver.

Dimensions: B batch, P prompt tokens, T speech tokens, M mel channels, S speaker embedding. A token
is 40 ms and two frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ..config import FRAMES_PER_TOKEN, S3GenConfig
from ..ops import lanes
from ..ops.layers import length_mask
from .conformer import Through, UpsampleConformerEncoder, through
from .estimator import Estimator
from .solver import SCHEDULES, guided, solve


class TokenToMel(nn.Module):
    """Tokens of speech, in the voice of a prompt, to log-mel frames at 50 Hz."""

    def __init__(self, config: S3GenConfig):
        super().__init__()
        self._mels = config.mels
        self._times = SCHEDULES[config.estimator.schedule](config.estimator.steps)
        self._guidance = config.estimator.guidance
        self._lookahead = config.encoder.lookahead
        self.input_embedding = nn.Embedding(config.vocabulary, config.encoder.width)
        self.speaker_projection = nn.Linear(config.speaker_embedding, config.mels)
        self.encoder = UpsampleConformerEncoder(config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.width, config.mels)
        self.estimator = Estimator(config.mels, config.estimator)

    def encode(
        self,
        tokens: mx.array,
        lengths: mx.array | None = None,
        *,
        final: bool = True,
        compiled: bool = False,
    ) -> mx.array:
        """Tokens (B, T) to mu, the flow's mean of each frame (B, 2T, M), float32.

        Args:
            lengths: valid tokens of each item (B,); None: all.
            final: False where more tokens will follow. The last ``lookahead`` tokens then have no
                look-ahead of their own and are withheld: mu is (B, 2 (T - lookahead), M).
            compiled: as for :meth:`__call__`.
        """
        hidden = self.encoder(
            self.input_embedding(tokens), lengths, through=self._encoder_form(compiled)
        )
        mu = self.encoder_proj(hidden)
        if not final:
            mu = mu[:, : mu.shape[1] - FRAMES_PER_TOKEN * self._lookahead]
        return mu.astype(mx.float32)

    def speaker(self, x_vector: mx.array) -> mx.array:
        """Speaker embedding (B, S), of any norm, to the estimator's input (B, M), float32."""
        norm = mx.linalg.norm(x_vector.astype(mx.float32), axis=-1, keepdims=True)
        return self.speaker_projection(x_vector / mx.maximum(norm, 1e-12)).astype(mx.float32)

    def decode(
        self,
        mu: mx.array,
        *,
        prompt_mel: mx.array,
        speaker: mx.array,
        noise: mx.array,
        lengths: mx.array | None = None,
        compiled: bool = False,
    ) -> Iterator[mx.array]:
        """Solve the flow for all frames of ``mu`` (B, N, M), the prompt's included.

        Yields the state (B, N, M), float32, after each step; the last one is the mel.

        Args:
            prompt_mel: the prompt's frames (B, 2P, M).
            speaker: (B, M), of :meth:`speaker`.
            noise: standard normal, (B, N, M).
            lengths: valid frames of each item (B,), the prompt's included; None: all.
            compiled: as for :meth:`__call__`.
        """
        rest = mu.shape[1] - prompt_mel.shape[1]
        condition = mx.pad(prompt_mel, [(0, 0), (0, rest), (0, 0)])

        if self._guidance is not None:  # rows without mu, speaker and condition
            mu, speaker, condition = (
                mx.concatenate([y, mx.zeros_like(y)]) for y in (mu, speaker, condition)
            )
            lengths = None if lengths is None else mx.concatenate([lengths, lengths])

        form = self._estimator_form(compiled)

        def velocity(x: mx.array, t: float, r: float) -> mx.array:
            return self.velocity(
                x, form, mu=mu, speaker=speaker, condition=condition, t=t, r=r, lengths=lengths
            )

        if self._guidance is not None:
            return solve(guided(velocity, self._guidance), noise, self._times)
        return solve(velocity, noise, self._times)

    def velocity(self, x: mx.array, form: Callable[..., mx.array], **given: Any) -> mx.array:
        """A step of the solver by one of the estimator's forms."""
        return form(x, **given)

    def _encoder_form(self, compiled: bool) -> Through:
        config = self.encoder.config
        widths = config.width, config.head_dim, config.feed_forward
        if not (compiled and lanes.suited(self.encoder.norm.weight, *widths)):
            return through
        from . import conformer_compiled

        return partial(conformer_compiled.through, config)

    def _estimator_form(self, compiled: bool) -> Callable[..., mx.array]:
        if not compiled:
            return self.estimator
        config, weight = self.estimator.config, self.estimator.final_proj.weight
        if not lanes.suited(weight, config.channels, config.head_dim):
            return self.estimator
        from ..ops.compiled.panels import kept
        from .estimator_compiled import CompiledEstimator

        return kept(self.estimator, CompiledEstimator)

    def __call__(
        self,
        tokens: mx.array,
        *,
        prompt_tokens: mx.array,
        prompt_mel: mx.array,
        x_vector: mx.array,
        noise: mx.array,
        lengths: mx.array | None = None,
        final: bool = True,
        compiled: bool = False,
    ) -> Iterator[mx.array]:
        """Speech ``tokens`` (B, T) to log-mel frames (B, 2T, M), float32.

        Yields the frames after each step of the solver; the last ones are the mel. A caller who
        evaluates each before taking the next holds the graph of one step in memory.

        Args:
            prompt_tokens: (B, P), the prompt's own tokens.
            prompt_mel: (B, 2P, M), the prompt's own frames.
            x_vector: (B, S), speaker embedding.
            noise: (B, 2 (P + T), M), standard normal; a row for each frame, the prompt's first.
            lengths: valid tokens of each item's speech (B,); None: all. An item's frames equal
                those that it gets alone; frames past its end are zeros.
            final: False where more tokens will follow: see :meth:`encode`. The frames of the last
                ``lookahead`` tokens are then missing from the result, and their noise is not read.
            compiled: compute in compiled kernels where they suit (:mod:`~..ops.lanes`): equal to
                rounding, at once, and without gradients.

        Raises:
            ValueError: the prompt's frames or the noise do not fit the tokens.
        """
        known = FRAMES_PER_TOKEN * prompt_tokens.shape[1]
        if prompt_mel.shape[1] != known:
            raise ValueError(
                f"the prompt has {prompt_mel.shape[1]} frames for {prompt_tokens.shape[1]} tokens, "
                f"not {known}; trim it to {FRAMES_PER_TOKEN} frames a token"
            )
        everything = mx.concatenate([prompt_tokens, tokens], axis=1)
        wanted = (len(tokens), FRAMES_PER_TOKEN * everything.shape[1], self._mels)
        if noise.shape != wanted:
            raise ValueError(
                f"the noise has shape {noise.shape}, not {wanted}: a row for each frame, the "
                "prompt's included"
            )
        attended = None if lengths is None else lengths + prompt_tokens.shape[1]
        mu = self.encode(everything, attended, final=final, compiled=compiled)
        withheld = 0 if final else self._lookahead
        frames = None if attended is None else FRAMES_PER_TOKEN * (attended - withheld)
        for mel in self.decode(
            mu,
            prompt_mel=prompt_mel,
            speaker=self.speaker(x_vector),
            noise=noise[:, : mu.shape[1]],
            lengths=frames,
            compiled=compiled,
        ):
            if frames is not None:
                mel = mx.where(length_mask(frames, mel.shape[1])[..., None], mel, 0)
            yield mel[:, known:]
