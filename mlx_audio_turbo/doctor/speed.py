"""The published sizes on random weights: milliseconds per token and real-time factor."""

from __future__ import annotations

import time
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from ..benchmark import machine, measure
from ..benchmark.workload import Workload, workload
from ..config import ModelConfig
from ..loading.networks import LISTENERS, Networks
from ..presets import TURBO
from ..synthesis.noise import NoiseSource
from ..synthesis.token_to_wav import TokenToWav

SECONDS = 2.0
WARM_UP = 0.4


@dataclass(frozen=True)
class Speed:
    """How fast one utterance is.

    bound: milliseconds per token if a step only read T3's weights at ``bandwidth`` bytes a second.
    share: of the bound, 1 where a step takes no longer.
    """

    seconds_of_audio: float
    prefill: float
    milliseconds_per_token: float
    audio: float
    real_time_factor: float
    weight_bytes: int
    bandwidth: float
    bound: float
    share: float
    peak: int


def random_networks(config: ModelConfig, dtype: mx.Dtype) -> Networks:
    """Networks of these sizes with small random weights; the vocoder is in float32."""
    networks = Networks(config, missing=LISTENERS)
    key = mx.random.key(0)

    def small(array: mx.array) -> mx.array:
        return mx.random.uniform(-0.02, 0.02, array.shape, key=key).astype(dtype)

    networks.update(tree_map(small, networks.parameters()))
    networks.s3gen.mel2wav.set_dtype(mx.float32)
    mx.eval(networks.parameters())
    return networks


def speed(
    config: ModelConfig = TURBO, *, dtype: mx.Dtype = mx.float32, seconds: float = SECONDS
) -> Speed:
    """Time an utterance, after a short one that warms up."""
    networks, before = random_networks(config, dtype), machine.bandwidth(dtype)
    _utterance(networks, config, workload(config, WARM_UP))
    mx.reset_peak_memory()
    timed = workload(config, seconds)
    prefill, decode, audio = _utterance(networks, config, timed)
    steps, weights = timed.decoded - 1, measure.weight_bytes_per_step(networks.t3)
    bandwidth = max(before, machine.bandwidth(dtype))
    milliseconds, bound = 1e3 * decode / steps, 1e3 * weights / bandwidth
    return Speed(
        seconds_of_audio=timed.seconds,
        prefill=prefill,
        milliseconds_per_token=milliseconds,
        audio=audio,
        real_time_factor=(prefill + decode + audio) / timed.seconds,
        weight_bytes=weights,
        bandwidth=bandwidth,
        bound=bound,
        share=bound / milliseconds,
        peak=mx.get_peak_memory(),
    )


def _utterance(
    networks: Networks, config: ModelConfig, timed: Workload
) -> tuple[float, float, float]:
    times = measure.decode(networks.t3, timed)
    voice = measure.voice_of(timed, "doctor")
    started = time.perf_counter()
    renderer = TokenToWav(networks.s3gen, voice, NoiseSource(mx.random.key(1)), config.rendering)
    np.concatenate(list(renderer.push(timed.tokens[: timed.decoded].tolist(), final=True)))
    return times["T3 prefill"][0], times["T3 decode"][0], time.perf_counter() - started
