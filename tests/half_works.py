"""Networks with weights of a trained model's magnitudes, and work for them in half precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map_with_path

from mlx_audio_turbo.config import T3Config
from mlx_audio_turbo.encoders.campplus import CAMPlus
from mlx_audio_turbo.encoders.s3_tokenizer import S3Tokenizer
from mlx_audio_turbo.encoders.voice_encoder import VoiceEncoder
from mlx_audio_turbo.loading.networks import make_t3
from mlx_audio_turbo.loading.weights import held_in
from mlx_audio_turbo.presets import ORIGINAL_S3GEN, TINY, TINY_ORIGINAL_T3
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo.t3 import original
from mlx_audio_turbo.t3.interface import Condition
from mlx_audio_turbo.t3.turbo import TurboT3, mlx_forward

from .gpu_path import log_mel, on_cpus_path, trained_like
from .helpers import normal, relative
from .measure.parity.sizes import GOLDEN


@dataclass(frozen=True)
class Work:
    """A network, what it computes, and the prefix of its tensors in a model folder."""

    prefix: str
    network: Any
    compute: Callable[[], mx.array]


def mel(seed: int = 0, *, guided: bool = False) -> Work:
    """S3Gen: Turbo's mean flow of two steps, or the original's flow of ten with guidance."""
    estimator = GOLDEN.s3gen.estimator
    if guided:
        theirs = ORIGINAL_S3GEN.estimator
        estimator = replace(
            estimator, schedule=theirs.schedule, guidance=theirs.guidance, mean_flow=False
        )
    network = TokenToMel(replace(GOLDEN.s3gen, estimator=estimator))
    trained_like(network, seed)
    # A residual stream of thousands, as trained models have in some channels.
    block = network.estimator.mid[0].blocks[0].feed_forward
    block.linear2.bias = block.linear2.bias.at[3].add(3000.0)
    tokens = mx.array(np.random.default_rng(seed + 1).integers(0, 6561, (1, 40)))

    def compute() -> mx.array:
        *_, frames = network(
            tokens[:, 15:],
            prompt_tokens=tokens[:, :15],
            prompt_mel=log_mel(30),
            x_vector=normal(1, GOLDEN.s3gen.speaker_embedding, seed=2),
            noise=normal(1, 80, GOLDEN.s3gen.mels, seed=3),
        )
        return frames

    return Work("s3gen.flow.", network, compute)


def turbo(seed: int = 0) -> Work:
    """Turbo's T3 to logits."""
    network = TurboT3(cast(T3Config, TINY.t3))
    trained_like(network, seed)
    projection = network.tfmr.h[1].mlp.c_proj
    projection.bias = projection.bias.at[5].add(3000.0)

    def compute() -> mx.array:
        cache = network.make_cache()
        mlx_forward(network, network.prefix(_condition(seed)), cache, [0])
        return mlx_forward(network, network.embed_input(mx.arange(20)), cache, [cache.offset])

    return Work("t3.", network, compute)


def original_t3(seed: int = 0) -> Work:
    """The original's T3 to logits."""
    network = make_t3(TINY_ORIGINAL_T3)
    trained_like(network, seed)

    def compute() -> mx.array:
        cache, prefix = network.make_cache(), network.prefix(_condition(seed))
        x = mx.concatenate([prefix, network.embed_input(mx.arange(20))], axis=1)
        return original.mlx_forward(network, x, cache, [0])

    return Work("t3.", network, compute)


def _condition(seed: int) -> Condition:
    return Condition(normal(1, 256, seed=seed), mx.array([[5, 9, 700, 6000]]), 0.7)


def _log_mels() -> mx.array:
    return -4.75 + 6.75 * mx.tanh(normal(1, 200, TINY.s3_tokenizer.mels, seed=5))


def s3_tokenizer(seed: int = 0) -> Work:
    """Log-mel to what is quantised to tokens."""
    network = S3Tokenizer(TINY.s3_tokenizer)
    trained_like(network, seed)
    return Work("s3tokenizer.", network, lambda: network.encode(_log_mels()))


def voice_encoder(seed: int = 0) -> Work:
    """Mel to speaker embedding."""
    network, mels = VoiceEncoder(TINY.voice_encoder), TINY.voice_encoder.mels
    trained_like(network, seed)
    return Work("ve.", network, lambda: network.embed(mx.exp(_log_mels()[0, :, :mels])))


def campplus(seed: int = 0) -> Work:
    """Filter banks to x-vector."""
    network, mels = CAMPlus(TINY.campplus), TINY.campplus.mels
    trained_like(network, seed)
    return Work("s3gen.speaker_encoder.", network, lambda: network(_log_mels()[..., :mels] + 4.75))


WORKS: dict[str, Callable[[int], Work]] = {
    "mel, mean flow": mel,
    "mel, guided flow": lambda seed: mel(seed, guided=True),
    "logits, Turbo": turbo,
    "logits, original": original_t3,
    "S3 tokenizer": s3_tokenizer,
    "VoiceEncoder": voice_encoder,
    "CAM++": campplus,
}


class Half:
    """A work in the types that the loader gives it on a GPU, where T3's is ``dtype``."""

    def __init__(self, work: Work, dtype: mx.Dtype):
        self._work, self._dtype = work, dtype
        self._exact = work.network.parameters()
        self._result = self._plain()

    def of_weights(
        self, kept: Callable[[str, mx.array], bool] = lambda name, array: False
    ) -> float:
        """What rounding the weights changes in float32 arithmetic; ``kept`` ones stay exact."""

        def rounded(name: str, array: mx.array) -> mx.array:
            return array if kept(name, array) else self._held(name, array).astype(mx.float32)

        return self._change(rounded, self._plain)

    def whole(self) -> float:
        """What half precision changes. NaN where a value is not finite."""
        return self._change(self._held, lambda: _values(self._work.compute()))

    def _held(self, name: str, array: mx.array) -> mx.array:
        return array.astype(held_in(self._work.prefix + name, array.shape, self._dtype))

    def _plain(self) -> np.ndarray:
        with on_cpus_path():
            return _values(self._work.compute())

    def _change(
        self, weight: Callable[[str, mx.array], mx.array], compute: Callable[[], np.ndarray]
    ) -> float:
        network = self._work.network
        network.update(tree_map_with_path(weight, self._exact))
        try:
            return float(relative(compute(), self._result))
        finally:
            network.update(self._exact)


def _values(result: mx.array) -> np.ndarray:
    return np.array(result.astype(mx.float32))
