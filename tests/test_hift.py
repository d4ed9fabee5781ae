"""The vocoder on a tiny configuration, against its definition written out in numpy float64."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from mlx_audio_turbo.config import SAMPLE_RATE, HiFTConfig
from mlx_audio_turbo.hift.generator import FADE_SAMPLES, HiFTGenerator, fade_in
from mlx_audio_turbo.hift.source import harmonic_waves, phase_offsets
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import rules
from mlx_audio_turbo_convert.mapping.hift import RULES
from mlx_audio_turbo_convert.synthetic import shapes

from .measure.parity.rows import snr

CONFIG = dataclasses.replace(TINY.hift, channels=16, f0_channels=8)
SPF = CONFIG.samples_per_frame
SINES = CONFIG.harmonics + 1


def random(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> HiFTGenerator:
    return drawn(CONFIG)


def drawn(config: HiFTConfig) -> HiFTGenerator:
    """Weights at which every branch matters and the samples do not clip."""
    network = HiFTGenerator(config)
    weights: list[tuple[str, mx.array]] = []
    for i, (name, array) in enumerate(tree_flatten(network.parameters())):
        assert isinstance(array, mx.array)
        values = random(*array.shape, seed=i)
        values *= 0.8 / np.sqrt(np.prod(array.shape[1:])) if array.ndim > 1 else 0.1
        if "alpha" in name:
            values += 1
        if name.startswith("conv_out"):
            values[: len(values) // 2] *= 0.5
        weights.append((name, mx.array(values)))
    network.update(tree_unflatten(weights))
    return network


# The definition, channels last, in float64.


def conv(x: np.ndarray, w: np.ndarray, b: np.ndarray, pad: int, stride=1, dilation=1) -> np.ndarray:
    x = np.pad(x, [(pad, pad), (0, 0)])
    out = (len(x) - dilation * (w.shape[1] - 1) - 1) // stride + 1
    y = np.zeros((out, w.shape[0]))
    for k in range(w.shape[1]):
        y += x[k * dilation :][: (out - 1) * stride + 1 : stride] @ w[:, k].T
    return y + b


def conv_transpose(
    x: np.ndarray, w: np.ndarray, b: np.ndarray, stride: int, pad: int
) -> np.ndarray:
    y = np.zeros(((len(x) - 1) * stride + w.shape[1], w.shape[0]))
    for t, row in enumerate(x):
        y[t * stride : t * stride + w.shape[1]] += (w @ row).T
    return y[pad : len(y) - pad] + b


def spectrum(signal: np.ndarray, fft: int, hop: int) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    padded = np.pad(signal.astype(np.float64), fft // 2, mode="reflect")
    starts = range(0, len(padded) - fft + 1, hop)
    bins = np.stack([np.fft.rfft(padded[i : i + fft] * window) for i in starts])
    return np.concatenate([bins.real, bins.imag], axis=1)


def waveform(bins: np.ndarray, fft: int, hop: int) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft) / fft)
    total, weight = np.zeros((2, (len(bins) - 1) * hop + fft))
    for t, frame in enumerate(np.fft.irfft(bins, axis=1)):
        total[t * hop : t * hop + fft] += frame * window
        weight[t * hop : t * hop + fft] += window**2
    kept = slice(fft // 2, -(fft // 2))
    return total[kept] / weight[kept]


def definition(network: HiFTGenerator, mel: np.ndarray, source: np.ndarray) -> np.ndarray:
    c = network.config
    w = {k: np.array(v).astype(np.float64) for k, v in tree_flatten(network.parameters())}

    def leaky(x: np.ndarray, slope: float) -> np.ndarray:
        return np.where(x > 0, x, slope * x)

    def stack(name: str, x: np.ndarray, kernel: int, dilations: tuple[int, ...]) -> np.ndarray:
        for j, dilation in enumerate(dilations):
            y = x
            for n, d in ((1, dilation), (2, 1)):
                unit = f"{name}.units.{j}"
                alpha = w[f"{unit}.alpha{n}"]
                y = y + np.sin(alpha * y) ** 2 / alpha
                layer = f"{unit}.conv{n}"
                pad = d * (kernel - 1) // 2
                y = conv(y, w[f"{layer}.weight"], w[f"{layer}.bias"], pad, dilation=d)
            x = x + y
        return x

    stft = spectrum(source, c.fft, c.hop)
    x = conv(mel.astype(np.float64), w["conv_in.weight"], w["conv_in.bias"], 3)
    downs = ((15, 7), (3, 1), (1, 0))
    for i, (rate, kernel) in enumerate(zip(c.upsample_rates, c.upsample_kernels, strict=True)):
        x = leaky(x, 0.1)
        x = conv_transpose(x, w[f"ups.{i}.weight"], w[f"ups.{i}.bias"], rate, (kernel - rate) // 2)
        if i == 2:
            x = np.pad(x, [(1, 0), (0, 0)], mode="reflect")
        stride, pad = downs[i]
        down = f"source_downs.{i}"
        s = conv(stft, w[f"{down}.weight"], w[f"{down}.bias"], pad, stride=stride)
        x = x + stack(f"source_stacks.{i}", s, c.source_kernels[i], c.source_dilations[i])
        x = sum(
            stack(f"stacks.{3 * i + j}", x, c.resblock_kernels[j], c.resblock_dilations[j]) / 3
            for j in range(3)
        )
        assert isinstance(x, np.ndarray)
    x = conv(leaky(x, 0.01), w["conv_out.weight"], w["conv_out.bias"], 3)
    half = c.fft // 2 + 1
    bins = np.minimum(np.exp(x[:, :half]), 100) * np.exp(1j * np.sin(x[:, half:]))
    return np.clip(waveform(bins, c.fft, c.hop), -0.99, 0.99)


@pytest.mark.parametrize("frames", [1, 4])
def test_decode_is_its_definition(network: HiFTGenerator, frames: int) -> None:
    mel, source = random(1, frames, 80, seed=1), 0.1 * random(1, frames * SPF, 1, seed=2)
    audio = network.decode(mx.array(mel), mx.array(source))
    assert audio.shape == (1, 480 * frames)
    assert audio.dtype == mx.float32
    wanted = definition(network, mel[0], source[0, :, 0])
    assert np.std(wanted) > 0.05
    assert np.mean(np.abs(wanted) < 0.98) > 0.5
    assert snr(np.array(audio)[0], wanted) > 90


def test_magnitudes_and_samples_are_clipped() -> None:
    network = drawn(CONFIG)
    network.conv_out.bias = network.conv_out.bias + 5.0
    mel, source = random(1, 2, 80, seed=1), 0.1 * random(1, 2 * SPF, 1, seed=2)
    audio = np.array(network.decode(mx.array(mel), mx.array(source)))[0]
    assert np.abs(audio).max() == np.float32(0.99)
    assert snr(audio, definition(network, mel[0], source[0, :, 0])) > 90


def test_spectrum_is_centred_reflected_and_periodic(network: HiFTGenerator) -> None:
    signal = random(2, 480, seed=3)
    ours = np.array(network._spectrum(mx.array(signal)))
    assert ours.shape == (2, 480 // 4 + 1, 18)
    for row, expected in zip(ours, signal, strict=True):
        np.testing.assert_allclose(row, spectrum(expected, 16, 4), atol=1e-5)


def test_overlap_add_inverts_the_spectrum(network: HiFTGenerator) -> None:
    signal = mx.array(random(2, 480, seed=3))
    again = network._overlap_add(network._spectrum(signal))
    np.testing.assert_allclose(np.array(again)[..., 0], np.array(signal), atol=1e-5)


def test_f0_is_its_definition(network: HiFTGenerator) -> None:
    w = {k: np.array(v).astype(np.float64) for k, v in tree_flatten(network.f0.parameters())}
    mel = random(1, 7, 80, seed=4)
    x = mel[0].astype(np.float64)
    for i in range(CONFIG.f0_layers):
        x = conv(x, w[f"convs.{i}.weight"], w[f"convs.{i}.bias"], 1)
        x = np.where(x > 0, x, np.expm1(x))
    wanted = np.abs(x @ w["linear.weight"].T + w["linear.bias"])[:, 0]
    assert (x @ w["linear.weight"].T + w["linear.bias"] < 0).any()
    np.testing.assert_allclose(np.array(network.f0(mx.array(mel)))[0], wanted, rtol=1e-5, atol=1e-6)


def waves(f0: np.ndarray, phases: np.ndarray, noise: np.ndarray) -> np.ndarray:
    offsets = phase_offsets(f0, harmonics=CONFIG.harmonics, samples_per_frame=SPF)
    arrays = (mx.array(x) for x in (f0, offsets, phases, noise))
    return np.array(harmonic_waves(*arrays, samples_per_frame=SPF))


def test_phase_does_not_drift_over_ten_seconds() -> None:
    f0 = (150 + 40 * random(1, 500, seed=5)).clip(80, 400).astype(np.float32)
    phases = random(1, SINES, seed=6)
    ours = waves(f0, phases, np.zeros((1, 500 * SPF, SINES), np.float32))
    for k in range(SINES):
        advance = np.repeat(f0[0] * np.float32(k + 1) / np.float32(SAMPLE_RATE), SPF)
        angle = 2 * np.pi * np.cumsum(advance.astype(np.float64)) + phases[0, k]
        assert snr(ours[0, :, k], 0.1 * np.sin(angle)) > 80


def test_noise_is_loud_where_unvoiced() -> None:
    f0 = np.array([[200, 10, 10.01, 0]], np.float32)
    noise = random(1, 4 * SPF, SINES, seed=7)
    phases = random(1, SINES, seed=6)
    silent = np.zeros_like(noise)
    noise_part = waves(f0, phases, noise) - waves(f0, phases, silent)
    voiced = np.repeat([True, False, True, False], SPF)[None, :, None]
    np.testing.assert_allclose(noise_part, np.where(voiced, 0.003, 0.1 / 3) * noise, atol=1e-6)
    quiet = waves(f0, phases, silent).reshape(4, -1)
    assert np.all(quiet[[1, 3]] == 0)
    assert np.all(quiet[[0, 2]].std(axis=1) > 0.05)


def test_a_later_window_continues_the_phase() -> None:
    f0 = (150 + 40 * random(2, 60, seed=5)).astype(np.float32)
    offsets = functools.partial(phase_offsets, harmonics=CONFIG.harmonics, samples_per_frame=SPF)
    whole = offsets(f0)
    later = offsets(f0[:, 41:], initial=whole[:, 41])
    distance = np.abs(later - whole[:, 41:])
    assert np.minimum(distance, 1 - distance).max() < 1e-6
    assert whole.dtype == np.float32
    assert whole.min() >= 0
    assert whole.max() < 1


def test_source_merges_the_sines(network: HiFTGenerator) -> None:
    f0, noise = np.full((1, 2), 120, np.float32), random(1, 2 * SPF, SINES, seed=7)
    phases = random(1, SINES, seed=6)
    offsets = phase_offsets(f0, harmonics=CONFIG.harmonics, samples_per_frame=SPF)
    source = network.source(*(mx.array(x) for x in (f0, offsets, phases, noise)))
    linear = network.source.linear
    wanted = np.tanh(waves(f0, phases, noise) @ np.array(linear.weight).T + np.array(linear.bias))
    assert source.shape == (1, 2 * SPF, 1)
    np.testing.assert_allclose(np.array(source), wanted, atol=1e-6)


def test_half_precision_weights_keep_transforms_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, exp, seen = drawn(CONFIG), mx.exp, []

    def spy(x: mx.array) -> mx.array:
        seen.append(x.dtype)
        return exp(x)

    monkeypatch.setattr(mx, "exp", spy)
    mel, source = mx.array(random(1, 3, 80, seed=1)), mx.array(random(1, 3 * SPF, 1, seed=2)) * 0.1
    exact = np.array(network.decode(mel, source))
    network.set_dtype(mx.float16)
    assert network.f0(mel).dtype == mx.float32
    audio = network.decode(mel.astype(mx.float16), source)
    assert audio.dtype == mx.float32
    assert seen == [mx.float32, mx.float32]
    assert network._spectrum(source[..., 0].astype(mx.float16)).dtype == mx.float32
    assert snr(np.array(audio), exact) > 30


def test_the_start_fades_in() -> None:
    audio = np.array(fade_in(mx.ones((2, 1000))))
    assert np.all(audio[:, :FADE_SAMPLES] == 0)
    np.testing.assert_allclose(
        audio[:, [480, 719, 720, 959]].T[:, 0], [0, 0.498, 0.502, 1], atol=1e-3
    )
    assert np.all(np.diff(audio, axis=1) >= -1e-7)
    assert np.all(audio[:, 960:] == 1)
    assert fade_in(mx.ones((1, 480))).shape == (1, 480)


def test_wrong_sizes_are_named(network: HiFTGenerator) -> None:
    mel = mx.zeros((1, 3, 80))
    with pytest.raises(ValueError, match="3 frames need 1440"):
        network.decode(mel, mx.zeros((1, 1380, 1)))
    f0 = np.full((1, 3), 100, np.float32)
    with pytest.raises(ValueError, match="the noise has shape"):
        waves(f0, np.zeros((1, SINES), np.float32), np.zeros((1, 480, SINES), np.float32))


def upstream() -> Iterator[tuple[str, tuple[int, ...]]]:
    table = shapes.s3gen(TINY)
    return ((k, v.shape) for k, v in table.items() if k.startswith("mel2wav."))


def test_mapping_makes_every_parameter() -> None:
    sources = {name: random(*shape, seed=i) for i, (name, shape) in enumerate(upstream())}
    parameters = tree_flatten(HiFTGenerator(TINY.hift).parameters(), destination={})
    assert isinstance(parameters, dict)
    wanted = {f"s3gen.mel2wav.{name}": array.shape for name, array in parameters.items()}
    made = dict(rules.apply(rules.plan(RULES, sources), sources.__getitem__, wanted))
    assert set(made) == set(wanted)
    # Weight norm runs over all but dim 0, which in a transposed convolution is the input.
    gain = sources["mel2wav.ups.0.parametrizations.weight.original0"]
    weight = made["s3gen.mel2wav.ups.0.weight"]
    norms = np.sqrt(np.sum(weight.astype(np.float64) ** 2, axis=(0, 1)))
    np.testing.assert_allclose(norms, np.abs(gain[:, 0, 0]), rtol=1e-5)
    gain = sources["mel2wav.conv_pre.parametrizations.weight.original0"]
    norms = np.sqrt(
        np.sum(made["s3gen.mel2wav.conv_in.weight"].astype(np.float64) ** 2, axis=(1, 2))
    )
    np.testing.assert_allclose(norms, np.abs(gain[:, 0, 0]), rtol=1e-5)
