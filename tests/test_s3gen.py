"""Tokens to mel on a tiny random network: shapes, and what each trap would break."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map, tree_map_with_path

from mlx_audio_turbo.config import EstimatorConfig, S3GenConfig
from mlx_audio_turbo.config.parsing import from_dict
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.presets import ORIGINAL_S3GEN, TINY, TINY_ORIGINAL_S3GEN, TURBO
from mlx_audio_turbo.s3gen import conformer, estimator
from mlx_audio_turbo.s3gen.model import TokenToMel
from mlx_audio_turbo.s3gen.solver import cosine_times, guided, solve, uniform_times

from .helpers import normal, relative

MELS = TINY.s3gen.mels
CHANNELS = TINY.s3gen.estimator.channels
WIDTH = TINY.s3gen.encoder.width
LOOKAHEAD = TINY.s3gen.encoder.lookahead


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Every parameter drawn: matrices by their fan-in, gains near one, biases near zero."""
    rng = np.random.default_rng(seed)

    def draw(name: str, array: mx.array) -> mx.array:
        values = rng.standard_normal(array.shape)
        if array.ndim == 1:
            values = 0.2 * values + name.endswith("norm.weight")
        elif "bias" not in name:
            values /= math.sqrt(np.prod(array.shape[1:]))
        return mx.array(values.astype(np.float32))

    module.update(tree_map_with_path(draw, module.parameters()))


@pytest.fixture
def network() -> TokenToMel:
    config = dataclasses.replace(TINY.s3gen, vocabulary=50)
    network = TokenToMel(config)
    randomise(network)
    return network


def tokens(*shape: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).integers(0, 50, shape).astype(np.int32))


def arguments(batch: int, prompt: int, speech: int) -> dict[str, Any]:
    return {
        "tokens": tokens(batch, speech, seed=1),
        "prompt_tokens": tokens(batch, prompt, seed=2),
        "prompt_mel": normal(batch, 2 * prompt, MELS, seed=3),
        "x_vector": normal(batch, TINY.s3gen.speaker_embedding, seed=4),
        "noise": normal(batch, 2 * (prompt + speech), MELS, seed=5),
    }


def mel_of(network: TokenToMel, tokens: mx.array, **given: Any) -> mx.array:
    """The solver's last state."""
    *_, mel = network(tokens, **given)
    return mel


def frames(batch: int, time: int) -> dict[str, Any]:
    return {
        "mu": normal(batch, time, MELS, seed=6),
        "speaker": normal(batch, MELS, seed=7),
        "condition": normal(batch, time, MELS, seed=8),
        "t": 0.0,
        "r": 0.5,
    }


def zero(*modules: nn.Module) -> None:
    for module in modules:
        module.update(tree_map(mx.zeros_like, module.parameters()))


def silence_attention(module: nn.Module) -> None:
    """What is left is local: convolutions and pointwise sums."""
    for _, child in module.named_modules():
        if isinstance(child, (conformer.RelativeAttention, estimator.Attention)):
            zero(child.out)


def changed(a: mx.array, b: mx.array) -> list[int]:
    """Times at which two (1, T, C) arrays differ."""
    return np.flatnonzero(np.abs(np.array(a - b))[0].max(axis=-1) > 1e-6).tolist()


class Capture(nn.Module):
    """Stands for a module, keeps what it was given."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self._inner, self._seen = inner, []

    def __call__(self, x: mx.array, *rest: Any) -> mx.array:
        self._seen.append(x)
        return self._inner(x, *rest)  # type: ignore[operator]


class TestShapes:
    def test_mel(self, network: TokenToMel) -> None:
        given = arguments(2, 5, 7)
        mel = mel_of(network, given.pop("tokens"), **given)
        assert mel.shape == (2, 14, MELS) and mel.dtype == mx.float32

    def test_one_token_without_a_prompt(self, network: TokenToMel) -> None:
        given = arguments(1, 0, 1)
        mel = mel_of(network, given.pop("tokens"), **given)
        assert mel.shape == (1, 2, MELS) and np.isfinite(np.array(mel)).all()

    def test_half_precision_weights(self, network: TokenToMel) -> None:
        given = arguments(1, 5, 7)
        speech = given.pop("tokens")
        full = mel_of(network, speech, **given)
        network.set_dtype(mx.float16)
        half = mel_of(network, speech, **given)
        assert half.dtype == mx.float32
        assert relative(half, full) < 3e-2
        told = network.estimator.embed_time(0.0, 0.5)
        assert told.dtype == mx.float32

    def test_prompt_frames_must_fit(self, network: TokenToMel) -> None:
        given = arguments(1, 5, 7)
        given["prompt_mel"] = normal(1, 11, MELS)
        with pytest.raises(ValueError, match="11 frames for 5 tokens"):
            mel_of(network, given.pop("tokens"), **given)

    @pytest.mark.parametrize("shape", [(1, 14, MELS), (1, 23, MELS), (2, 24, MELS), (1, 24, 8)])
    def test_noise_must_fit(self, network: TokenToMel, shape: tuple[int, ...]) -> None:
        given = arguments(1, 5, 7)
        given["noise"] = normal(*shape)
        with pytest.raises(ValueError, match="noise"):
            mel_of(network, given.pop("tokens"), **given)

    def test_every_parameter_matters(self, network: TokenToMel) -> None:
        given = arguments(1, 5, 7)
        given["tokens"], given["prompt_tokens"] = mx.arange(43, 50)[None], mx.arange(5)[None]

        def loss(parameters: dict[str, Any]) -> mx.array:
            network.update(parameters)
            mel = mel_of(
                network, given["tokens"], **{k: v for k, v in given.items() if k != "tokens"}
            )
            return (mel * normal(*mel.shape, seed=9)).sum()

        gradients = dict(tree_flatten(mx.grad(loss)(network.trainable_parameters())))
        dead = [name for name, array in gradients.items() if not np.abs(np.array(array)).max() > 0]
        assert dead == []


class TestEncoder:
    def test_distances_run_from_far_left_to_far_right(self) -> None:
        table = np.array(conformer.relative_positions(4, 6))
        assert table.shape == (7, 6)
        for row, distance in enumerate([3, 2, 1, 0, -1, -2, -3]):
            for pair in range(3):
                angle = distance / 10_000 ** (2 * pair / 6)
                expected = [math.sin(angle), math.cos(angle)]
                np.testing.assert_allclose(table[row, 2 * pair : 2 * pair + 2], expected, atol=1e-6)

    @pytest.mark.parametrize("time", [1, 2, 5])
    def test_relative_shift(self, time: int) -> None:
        scores = np.array(normal(2, 3, time, 2 * time - 1))
        expected = np.empty((2, 3, time, time), np.float32)
        for i in range(time):
            for j in range(time):
                expected[:, :, i, j] = scores[:, :, i, time - 1 - (i - j)]
        ours = np.array(conformer.relative_shift(mx.array(scores)))
        np.testing.assert_array_equal(ours, expected)

    def test_attention_is_the_formula(self) -> None:
        config = TINY.s3gen.encoder
        attention = conformer.RelativeAttention(config)
        randomise(attention)
        x, time = normal(1, 6, WIDTH), 6
        positions = conformer.relative_positions(time, WIDTH)
        heads, size = config.heads, config.head_dim

        def split(y: mx.array) -> np.ndarray:
            return np.array(y).reshape(-1, heads, size)

        q, k, v = (split(part(x)[0]) for part in (attention.q, attention.k, attention.v))
        p = split(attention.pos(positions))
        u, w = np.array(attention.bias_u), np.array(attention.bias_v)
        out = np.empty((time, heads, size), np.float32)
        for i in range(time):
            for h in range(heads):
                scores = np.array(
                    [
                        (q[i, h] + u[h]) @ k[j, h] + (q[i, h] + w[h]) @ p[time - 1 - i + j, h]
                        for j in range(time)
                    ]
                )
                weights = np.exp(scores / math.sqrt(size))
                out[i, h] = weights @ v[:, h] / weights.sum()
        expected = attention.out(mx.array(out.reshape(1, time, WIDTH)))
        assert relative(attention(x, positions, None), expected) < 1e-5

    def test_block_norms_have_a_tiny_epsilon(self, network: TokenToMel) -> None:
        x = normal(1, 3, WIDTH)
        for block in network.encoder.blocks + network.encoder.up_blocks:
            for norm in (block.attention_norm, block.feed_forward_norm):
                assert relative(norm(1e-4 * x), norm(x)) < 1e-3

    def test_other_norms_have_the_usual_epsilon(self, network: TokenToMel) -> None:
        quiet = 1e-4 * normal(1, 3, WIDTH)
        for norm in (
            network.encoder.norm,
            network.encoder.embed.norm,
            network.encoder.up_embed.norm,
        ):
            rows = np.array(quiet, np.float64)
            centred = rows - rows.mean(axis=-1, keepdims=True)
            scaled = centred / np.sqrt(rows.var(axis=-1, keepdims=True) + 1e-5)
            expected = scaled * np.array(norm["weight"]) + np.array(norm["bias"])
            np.testing.assert_allclose(np.array(norm(quiet)), expected, atol=1e-5)

    def test_embedding_is_scaled(self, network: TokenToMel) -> None:
        embed = network.encoder.embed
        x = normal(1, 3, WIDTH)
        expected = embed.norm(embed.linear(x)) * math.sqrt(WIDTH)
        np.testing.assert_allclose(np.array(embed(x)), np.array(expected), rtol=1e-6)

    def test_looks_three_tokens_ahead_and_pads_left(self, network: TokenToMel) -> None:
        silence_attention(network)
        speech = tokens(1, 16)
        other = mx.array(np.array(speech))
        other[0, 8] = (other[0, 8] + 1) % 50
        # Three tokens ahead, two behind, then two copies of each and four frames behind.
        expected = list(range(2 * (8 - LOOKAHEAD), 2 * (8 + 2 + 1) + 4))
        assert changed(network.encode(speech), network.encode(other)) == expected

    def test_lookahead_slope_and_residual(self) -> None:
        lookahead = conformer.Lookahead(1, LOOKAHEAD)
        lookahead.conv1.weight = mx.array([[[0.0], [0.0], [0.0], [1.0]]])
        lookahead.conv2.weight = mx.array([[[0.0], [0.0], [1.0]]])
        x = mx.array([[[1.0], [2.0], [3.0], [-4.0], [5.0]]])
        np.testing.assert_allclose(np.array(lookahead(x))[0, :, 0], [0.96, 7, 3, -4, 5], atol=1e-6)

    def test_attends_both_ways(self, network: TokenToMel) -> None:
        speech = tokens(1, 16)
        other = mx.array(np.array(speech))
        other[0, 15] = (other[0, 15] + 1) % 50
        assert changed(network.encode(speech), network.encode(other)) == list(range(32))

    def test_withholds_the_lookahead(self, network: TokenToMel) -> None:
        speech = tokens(1, 16)
        held = network.encode(speech, final=False)
        assert held.shape == (1, 2 * (16 - LOOKAHEAD), MELS)
        np.testing.assert_array_equal(
            np.array(held), np.array(network.encode(speech)[:, : held.shape[1]])
        )


def test_both_multilayer_perceptrons_have_silu() -> None:
    for module in (conformer.FeedForward(TINY.s3gen.encoder), estimator.TimeMLP(WIDTH, 8)):
        randomise(module)
        x = normal(1, 3, WIDTH)
        inner = module.linear1(x)
        expected = module.linear2(inner * mx.sigmoid(inner))
        assert relative(module(x), expected) < 1e-6


class TestEstimator:
    def test_input_channels_in_order(self, network: TokenToMel) -> None:
        x, given = normal(1, 4, MELS), frames(1, 4)
        capture = network.estimator.down = Capture(network.estimator.down)  # type: ignore
        network.estimator(x, **given)
        (seen,) = capture._seen
        for part, expected in enumerate([x, given["mu"], given["speaker"], given["condition"]]):
            channels = np.array(seen[..., MELS * part : MELS * (part + 1)])
            np.testing.assert_array_equal(channels, np.broadcast_to(expected, channels.shape))

    def test_skip_is_taken_before_the_convolution(self, network: TokenToMel) -> None:
        x, given = normal(1, 4, MELS), frames(1, 4)
        capture = network.estimator.up = Capture(network.estimator.up)  # type: ignore
        zero(network.estimator.down_conv)
        network.estimator(x, **given)
        network.estimator(x + 1, **given)
        first, second = (np.array(seen) for seen in capture._seen)
        # Nothing gets past the convolution but the skip, and the skip stands second.
        np.testing.assert_array_equal(first[..., :CHANNELS], second[..., :CHANNELS])
        assert np.abs(first[..., CHANNELS:] - second[..., CHANNELS:]).max() > 0.1

    def test_causal_block_pads_with_zeros_on_the_left(self) -> None:
        block = estimator.CausalBlock(3, 5)
        randomise(block)
        x = np.array(normal(1, 4, 3), np.float64)
        padded = np.concatenate([np.zeros((1, 2, 3)), x], axis=1)
        weight, bias = np.array(block.conv.weight, np.float64), np.array(block.conv.bias)
        y = np.stack(
            [np.einsum("okc,kc->o", weight, padded[0, t : t + 3]) + bias for t in range(4)]
        )
        y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
        y = y * np.array(block.norm["weight"]) + np.array(block.norm["bias"])
        y = y * np.tanh(np.log1p(np.exp(y)))
        np.testing.assert_allclose(np.array(block(mx.array(x, mx.float32)))[0], y, atol=2e-6)

    def test_convolutions_look_back_only(self, network: TokenToMel) -> None:
        silence_attention(network)
        x, given = normal(1, 12, MELS), frames(1, 12)
        other = mx.array(np.array(x))
        other[0, 7] += 1
        a, b = network.estimator(x, **given), network.estimator(other, **given)
        assert changed(a, b) == [7, 8, 9, 10, 11]

    def test_attends_both_ways(self, network: TokenToMel) -> None:
        x, given = normal(1, 12, MELS), frames(1, 12)
        other = mx.array(np.array(x))
        other[0, 11] += 1
        a, b = network.estimator(x, **given), network.estimator(other, **given)
        assert changed(a, b) == list(range(12))

    def test_feed_forward_has_the_exact_gelu(self) -> None:
        feed_forward = estimator.FeedForward(TINY.s3gen.estimator)
        eye = np.eye(4 * CHANNELS, CHANNELS, dtype=np.float32)
        feed_forward.linear1.weight = mx.array(eye)
        feed_forward.linear2.weight = mx.array(eye.T)
        zero_bias = {"bias": mx.zeros(4 * CHANNELS)}, {"bias": mx.zeros(CHANNELS)}
        feed_forward.linear1.update(zero_bias[0])
        feed_forward.linear2.update(zero_bias[1])
        x = np.linspace(-4, 4, CHANNELS)
        exact = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x]
        ours = np.array(feed_forward(mx.array(x.astype(np.float32))[None, None]))[0, 0]
        np.testing.assert_allclose(ours, exact, atol=2e-6)

    def test_time_sinusoids(self) -> None:
        ours = np.array(estimator.time_sinusoids((0.0, 0.5), 320))
        rates = 10_000 ** -(np.arange(160) / 159)
        np.testing.assert_array_equal(ours[0], [0.0] * 160 + [1.0] * 160)
        np.testing.assert_allclose(ours[1, :160], np.sin(500 * rates), atol=1e-6)
        np.testing.assert_allclose(ours[1, 160:], np.cos(500 * rates), atol=1e-6)

    def test_mixer_takes_t_before_r(self, network: TokenToMel) -> None:
        size = TINY.s3gen.estimator.time_embedding
        only_first = np.concatenate([np.eye(size), np.zeros((size, size))], axis=1)
        network.estimator.time_mixer.weight = mx.array(only_first.astype(np.float32))
        told = [
            np.array(network.estimator.embed_time(t, r)) for t, r in ((0, 0.5), (0, 1), (0.5, 1))
        ]
        np.testing.assert_array_equal(told[0], told[1])
        assert np.abs(told[1] - told[2]).max() > 1e-2

    def test_time_goes_in_between_the_two_blocks(self) -> None:
        resnet = estimator.ResnetBlock(3, 5, 7)
        randomise(resnet)
        x, time = normal(1, 4, 3), normal(1, 7, seed=1)
        expected = resnet.block2(resnet.block1(x) + resnet.time(time)) + resnet.residual(x)
        np.testing.assert_allclose(np.array(resnet(x, time)), np.array(expected), atol=1e-6)

    def test_time_is_activated_before_each_resnet(self, network: TokenToMel) -> None:
        unit = network.estimator
        both = unit.time_mlp(estimator.time_sinusoids((0.0, 0.5), 4 * MELS)).reshape(1, -1)
        mixed = np.array(unit.time_mixer(both), np.float64)
        expected = mixed * np.tanh(np.log1p(np.exp(mixed)))
        np.testing.assert_allclose(np.array(unit.embed_time(0.0, 0.5)), expected, atol=1e-5)


class TestSolver:
    def test_two_steps(self, network: TokenToMel) -> None:
        assert TURBO.s3gen.estimator.steps == 2
        times = []
        inner = network.estimator

        class Watch(nn.Module):
            def __call__(self, x: mx.array, **given: Any) -> mx.array:
                times.append((given["t"], given["r"]))
                return inner(x, **given)

        network.estimator = Watch()  # type: ignore[assignment]
        given = arguments(1, 3, 4)
        mel_of(network, given.pop("tokens"), **given)
        assert times == [(0.0, 0.5), (0.5, 1.0)]

    @pytest.mark.parametrize("steps", [1, 2, 6])
    def test_a_true_mean_velocity_lands_exactly(self, steps: int) -> None:
        def velocity(x: mx.array, t: float, r: float) -> mx.array:
            return mx.full(x.shape, (r**3 - t**3) / (r - t))

        noise = normal(1, 3, 2)
        *_, mel = solve(velocity, noise, uniform_times(steps))
        np.testing.assert_allclose(np.array(mel), np.array(noise + 1), atol=1e-6)

    def test_each_step_starts_where_the_last_ended(self) -> None:
        states = solve(lambda x, t, r: x, mx.ones((1, 1, 1)), uniform_times(2))
        assert [state.item() for state in states] == [1.5, 1.5**2]

    def test_a_step_is_built_when_the_caller_asks_for_it(self) -> None:
        built: list[float] = []

        def velocity(x: mx.array, t: float, r: float) -> mx.array:
            built.append(t)
            return x

        states = solve(velocity, mx.ones((1, 1, 1)), uniform_times(3))
        assert built == []
        next(states)
        assert built == [0.0]

    def test_cosine_times(self) -> None:
        values = [0, 0.0123, 0.0489, 0.1090, 0.1910, 0.2929, 0.4122, 0.5460, 0.6910, 0.8436, 1]
        np.testing.assert_allclose(cosine_times(10), values, atol=5e-5)
        assert (cosine_times(10)[0], cosine_times(10)[-1]) == (0.0, 1.0)

    def test_guidance_weighs_the_two_halves(self) -> None:
        def velocity(x: mx.array, t: float, r: float) -> mx.array:
            assert x.shape == (4, 3, 2)
            np.testing.assert_array_equal(np.array(x[:2]), np.array(x[2:]))
            return x * mx.array([1.0, 2.0, 10.0, 20.0])[:, None, None]

        x = normal(2, 3, 2)
        wanted = np.array(x) * np.array([1.7 * 1 - 0.7 * 10, 1.7 * 2 - 0.7 * 20])[:, None, None]
        np.testing.assert_allclose(np.array(guided(velocity, 0.7)(x, 0.0, 0.5)), wanted, rtol=1e-5)


class TestTenSteps:
    """The original's S3Gen: cosine times, guidance, one time."""

    @pytest.fixture
    def original(self) -> TokenToMel:
        network = TokenToMel(dataclasses.replace(TINY_ORIGINAL_S3GEN, vocabulary=50))
        randomise(network)
        return network

    def test_settings_of_the_original(self) -> None:
        estimator = ORIGINAL_S3GEN.estimator
        assert (estimator.steps, estimator.schedule, estimator.guidance) == (10, "cosine", 0.7)
        assert dataclasses.replace(estimator, steps=2, schedule="uniform", guidance=None) == (
            dataclasses.replace(TURBO.s3gen.estimator, mean_flow=False)
        )

    def test_there_is_no_mixer_and_the_end_of_a_step_changes_nothing(
        self, original: TokenToMel
    ) -> None:
        assert "time_mixer" not in original.estimator.parameters()
        steps = ((0, 1), (0, 0.5), (0.5, 1))
        first, again, other = (original.estimator.embed_time(*step) for step in steps)
        assert mx.array_equal(first, again)
        assert np.abs(np.array(first - other)).max() > 1e-2

    def test_times_and_rows(self, original: TokenToMel) -> None:
        calls: list[dict[str, Any]] = []
        inner = original.estimator

        class Watch(nn.Module):
            def __call__(self, x: mx.array, **given: Any) -> mx.array:
                calls.append({"x": x, **given})
                return inner(x, **given)

        original.estimator = Watch()  # type: ignore[assignment]
        given = arguments(2, 3, 4)
        mel_of(original, given.pop("tokens"), **given, lengths=mx.array([4, 2]))
        assert [call["t"] for call in calls] == cosine_times(10)[:-1]
        for call in calls:
            np.testing.assert_array_equal(np.array(call["x"][:2]), np.array(call["x"][2:]))
            assert call["lengths"].tolist() == [14, 10, 14, 10]
            for name in ("mu", "speaker", "condition"):
                assert np.abs(np.array(call[name][:2])).max() > 0, name
                assert np.abs(np.array(call[name][2:])).max() == 0, name

    def test_mel_is_the_formula(self, original: TokenToMel) -> None:
        given = arguments(1, 3, 4)
        mu = original.encode(mx.concatenate([given["prompt_tokens"], given["tokens"]], axis=1))
        condition = mx.pad(given["prompt_mel"], [(0, 0), (0, 8), (0, 0)])
        speaker = original.speaker(given["x_vector"])
        x, times = given["noise"], cosine_times(10)
        for t, r in itertools.pairwise(times):
            yes = original.estimator(x, mu=mu, speaker=speaker, condition=condition, t=t, r=r)
            no = original.estimator(
                x,
                mu=mx.zeros_like(mu),
                condition=mx.zeros_like(condition),
                speaker=mx.zeros_like(speaker),
                t=t,
                r=r,
            )
            x = x + (r - t) * (1.7 * yes - 0.7 * no)
        assert relative(mel_of(original, **given), x[:, 6:]) < 1e-5

    def test_a_masked_batch_equals_its_items(self, original: TokenToMel) -> None:
        lengths = [9, 4]
        given = arguments(2, 5, 9)
        speech = given.pop("tokens")
        batch = mel_of(original, speech, **given, lengths=mx.array(lengths))
        for item, length in enumerate(lengths):
            alone = {name: array[item : item + 1] for name, array in given.items()}
            alone["noise"] = alone["noise"][:, : 2 * (5 + length)]
            mel = mel_of(original, speech[item : item + 1, :length], **alone)
            assert relative(batch[item : item + 1, : 2 * length], mel) < 1e-5


class TestConfig:
    def test_a_folder_of_version_0_1_is_a_mean_flow(self) -> None:
        new = ("schedule", "guidance", "mean_flow")
        values = dataclasses.asdict(TURBO.s3gen.estimator)
        old = {name: value for name, value in values.items() if name not in new}
        assert from_dict(EstimatorConfig, old) == TURBO.s3gen.estimator

    def test_the_original_goes_through_json(self) -> None:
        values = json.loads(json.dumps(dataclasses.asdict(ORIGINAL_S3GEN)))
        assert from_dict(S3GenConfig, values) == ORIGINAL_S3GEN

    @pytest.mark.parametrize(
        "change", [{"schedule": "linear"}, {"mean_flow": 1}, {"guidance": "much"}]
    )
    def test_wrong_values_are_refused(self, change: dict[str, Any]) -> None:
        values = {**dataclasses.asdict(TURBO.s3gen.estimator), **change}
        with pytest.raises(ModelFolderError, match=next(iter(change))):
            from_dict(EstimatorConfig, values)


class TestModel:
    def test_speaker_is_normalised(self, network: TokenToMel) -> None:
        x_vector = normal(2, TINY.s3gen.speaker_embedding)
        loud = network.speaker(10 * x_vector)
        np.testing.assert_allclose(np.array(loud), np.array(network.speaker(x_vector)), atol=1e-6)
        unit = x_vector / mx.linalg.norm(x_vector, axis=-1, keepdims=True)
        expected = network.speaker_projection(unit)
        np.testing.assert_allclose(np.array(loud), np.array(expected), atol=1e-6)

    def test_condition_is_the_prompt_then_zeros(self, network: TokenToMel) -> None:
        given = arguments(1, 3, 4)
        prompt_mel = given["prompt_mel"]
        capture = network.estimator.down = Capture(network.estimator.down)  # type: ignore
        mel_of(network, given.pop("tokens"), **given)
        condition = np.array(capture._seen[0][..., 3 * MELS :])
        np.testing.assert_array_equal(condition[:, :6], np.array(prompt_mel))
        np.testing.assert_array_equal(condition[:, 6:], 0)

    def test_prompt_comes_first_and_is_cut_off(self, network: TokenToMel) -> None:
        given = arguments(1, 3, 4)
        speech = given.pop("tokens")
        everything = mx.concatenate([given["prompt_tokens"], speech], axis=1)
        *_, whole = network.decode(
            network.encode(everything),
            prompt_mel=given["prompt_mel"],
            speaker=network.speaker(given["x_vector"]),
            noise=given["noise"],
        )
        np.testing.assert_array_equal(
            np.array(mel_of(network, speech, **given)), np.array(whole[:, 6:])
        )

    def test_withheld_tokens_leave_the_noise_by_position(self, network: TokenToMel) -> None:
        given = arguments(1, 5, 9)
        speech = given.pop("tokens")
        mel = mel_of(network, speech, **given, final=False)
        assert mel.shape == (1, 2 * (9 - LOOKAHEAD), MELS)
        noise = np.array(given.pop("noise"))
        noise[:, -2 * LOOKAHEAD :] = 9
        again = mel_of(network, speech, **given, noise=mx.array(noise), final=False)
        np.testing.assert_array_equal(np.array(mel), np.array(again))

    @pytest.mark.parametrize("final", [True, False])
    def test_a_masked_batch_equals_its_items(self, network: TokenToMel, final: bool) -> None:
        lengths = [9, 6, 4]
        given = arguments(3, 5, 9)
        speech = given.pop("tokens")
        batch = mel_of(network, speech, **given, lengths=mx.array(lengths), final=final)
        for item, length in enumerate(lengths):
            alone = {name: array[item : item + 1] for name, array in given.items()}
            alone["noise"] = alone["noise"][:, : 2 * (5 + length)]
            mel = mel_of(network, speech[item : item + 1, :length], **alone, final=final)
            size = mel.shape[1]
            assert size == 2 * (length - (0 if final else LOOKAHEAD))
            assert relative(batch[item : item + 1, :size], mel) < 1e-5
            np.testing.assert_array_equal(np.array(batch[item, size:]), 0)
