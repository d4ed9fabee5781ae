"""Speech tokens and a voice to mel: encoder, estimator and solver together.

Dimensions: B batch, P prompt tokens, T speech tokens, M mel channels, S speaker embedding. A token
is 40 ms and two frames.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from ..config import FRAMES_PER_TOKEN, S3GenConfig
from ..ops.layers import length_mask
from . import solver as meanflow
from .conformer import UpsampleConformerEncoder
from .estimator import Estimator


class TokenToMel(nn.Module):
    """Tokens of speech, in the voice of a prompt, to log-mel frames at 50 Hz."""

    def __init__(self, config: S3GenConfig):
        super().__init__()
        self._mels, self._steps = config.mels, config.estimator.steps
        self._lookahead = config.encoder.lookahead
        self.input_embedding = nn.Embedding(config.vocabulary, config.encoder.width)
        self.speaker_projection = nn.Linear(config.speaker_embedding, config.mels)
        self.encoder = UpsampleConformerEncoder(config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.width, config.mels)
        self.estimator = Estimator(config.mels, config.estimator)

    def encode(
        self, tokens: mx.array, lengths: mx.array | None = None, *, final: bool = True
    ) -> mx.array:
        """What the tokens (B, T) say of each frame: mu (B, 2T, M), float32.

        Args:
            lengths: valid tokens of each item (B,); None where all are.
            final: False where more tokens will follow: the last ``lookahead`` ones, which have not
                heard what comes after them, are withheld and mu is (B, 2 (T - lookahead), M).
        """
        mu = self.encoder_proj(self.encoder(self.input_embedding(tokens), lengths))
        if not final:
            mu = mu[:, : mu.shape[1] - FRAMES_PER_TOKEN * self._lookahead]
        return mu.astype(mx.float32)

    def speaker(self, x_vector: mx.array) -> mx.array:
        """Speaker embedding (B, S), of any length, to the estimator's input (B, M), float32."""
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
        settle: Callable[[mx.array], None] = meanflow.leave,
    ) -> mx.array:
        """Solve the flow for all frames of ``mu`` (B, N, M), those of the prompt included.

        Args:
            prompt_mel: the first frames as they are known, (B, 2P, M).
            speaker: as :meth:`speaker` gives it, (B, M).
            noise: standard normal, (B, N, M).
            lengths: valid frames of each item (B,), the prompt's included; None where all are.
            settle: as for :func:`meanflow.solve`.
        """
        rest = mu.shape[1] - prompt_mel.shape[1]
        condition = mx.pad(prompt_mel, [(0, 0), (0, rest), (0, 0)])

        def velocity(x: mx.array, t: float, r: float) -> mx.array:
            return self.estimator(
                x, mu=mu, speaker=speaker, condition=condition, t=t, r=r, lengths=lengths
            )

        return meanflow.solve(velocity, noise, steps=self._steps, settle=settle)

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
        settle: Callable[[mx.array], None] = meanflow.leave,
    ) -> mx.array:
        """Log-mel frames (B, 2T, M), float32, of the speech ``tokens`` (B, T).

        Args:
            prompt_tokens: (B, P), the prompt's own tokens.
            prompt_mel: (B, 2P, M), the prompt's own frames.
            x_vector: (B, S), speaker embedding.
            noise: (B, 2 (P + T), M), standard normal; one row per frame, the prompt's first.
            lengths: valid tokens of each item's speech (B,); None where all are. Each item gets
                what it would get alone, and zeros past its end.
            final: False where more tokens will follow: see :meth:`encode`. The frames of the last
                ``lookahead`` tokens are then missing from the result, and their noise is not read.
            settle: called with each result on the way. A caller who evaluates it has the graph of
                one step in memory and not that of all: 40 s of speech are 300,000 nodes of 1 kB.

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
                f"the noise is {noise.shape} where the frames are {wanted}; draw a row for each "
                "frame, the prompt's included"
            )
        heard = None if lengths is None else lengths + prompt_tokens.shape[1]
        mu = self.encode(everything, heard, final=final)
        settle(mu)
        withheld = 0 if final else self._lookahead
        frames = None if heard is None else FRAMES_PER_TOKEN * (heard - withheld)
        mel = self.decode(
            mu,
            prompt_mel=prompt_mel,
            speaker=self.speaker(x_vector),
            noise=noise[:, : mu.shape[1]],
            lengths=frames,
            settle=settle,
        )
        if frames is not None:
            mel = mx.where(length_mask(frames, mel.shape[1])[..., None], mel, 0)
        return mel[:, known:]
