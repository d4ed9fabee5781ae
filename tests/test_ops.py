"""Both forms of every kernel, the CPU's own and MLX's, against float64 NumPy."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Callable, Iterator
from importlib import import_module

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo import ops
from mlx_audio_turbo.ops import activations, convolution, device
from mlx_audio_turbo.ops.fast_math import STEP, exp_of_steps

from .helpers import relative

attention_module = import_module("mlx_audio_turbo.ops.attention")  # ops.attention: the function

FORMS = ("mlx", "own")
erf = np.vectorize(math.erf)
erfc = np.vectorize(math.erfc)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Forces one way through ``ops``, whatever this machine's processor."""

    def own(x: mx.array) -> bool:
        return request.param == "own" and x.dtype == mx.float32

    monkeypatch.setattr(activations, "slow_functions", own)
    monkeypatch.setattr(attention_module, "slow_functions", own)
    if request.param == "mlx":
        monkeypatch.setattr(convolution, "on_gpu", lambda: True)
    previous = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield request.param
    mx.set_default_device(previous)


def draw(*shape: int, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


# Activations


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[
    str, tuple[Callable[[mx.array], mx.array], Callable[[np.ndarray], np.ndarray]]
] = {
    "silu": (ops.silu, lambda x: x * logistic(x)),
    "gelu": (ops.gelu, lambda x: 0.5 * x * erfc(-x / math.sqrt(2))),
    "gelu_tanh": (
        ops.gelu_tanh,
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "mish": (ops.mish, lambda x: x * np.tanh(np.logaddexp(x, 0))),
    "elu": (ops.elu, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "leaky_relu": (lambda x: ops.leaky_relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(form: str, name: str) -> None:
    ours, exact = ACTIVATIONS[name]
    x = np.linspace(-12, 12, 60_000, dtype=np.float32).reshape(1, -1, 4)
    wanted = exact(x.astype(np.float64))
    error = np.abs(np.array(ours(mx.array(x)), np.float64) - wanted)
    size = np.maximum(np.abs(x), 1e-3)
    assert (error / size).max() < 5e-7
    assert relative(ours(mx.array(x)), wanted) < 1.5e-7


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_the_far_ends(form: str, name: str) -> None:
    ours, _ = ACTIVATIONS[name]
    y = np.array(ours(mx.array([[[1e4, -1e4, 0.0, math.nan]]], mx.float32)))[0, 0]
    top, bottom = {"elu": (1e4, -1), "leaky_relu": (1e4, -1e3)}.get(name, (1e4, 0))
    assert y[0] == top and y[1] == bottom
    assert y[2] == 0
    assert np.isnan(y[3])


def test_exp() -> None:
    x = np.linspace(-87, 88, 100_000, dtype=np.float32)
    exact = np.exp(x.astype(np.float64))
    error = np.abs(np.array(exp_of_steps(mx.array(x) * STEP), np.float64) / exact - 1)
    assert error.max() < 2e-7
    ends = np.array(exp_of_steps(mx.array([-np.inf, -1e30, np.inf, 200.0]) * STEP))
    assert ends.tolist() == [0, 0, np.inf, np.inf]
    assert np.isnan(np.array(exp_of_steps(mx.array([math.nan])))).all()


def test_snake(form: str) -> None:
    x = draw(2, 5000, 8, spread=3)
    alpha = np.abs(draw(8, seed=1)) + 0.05
    wide = x.astype(np.float64)
    exact = wide + np.sin(alpha * wide) ** 2 / alpha
    assert relative(ops.snake(mx.array(x), mx.array(alpha)), exact) < 2e-7
    still = ops.snake(mx.array(x), mx.zeros(8))
    assert relative(still, wide) < 1e-7


@pytest.mark.skipif(shutil.which("g++") is None, reason="MLX compiles for the CPU with g++")
def test_the_kernels_of_a_gpu_compile_and_serve_every_shape(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "own":
        pytest.skip("a GPU has MLX's forms")
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    for shape in ((1, 7, 12), (3, 5, 12)):
        x, alpha = draw(*shape, seed=1), np.abs(draw(12, seed=2)) + 0.3
        for name in ("silu", "gelu", "gelu_tanh", "mish", "elu"):
            function, exact = ACTIVATIONS[name]
            assert relative(function(mx.array(x)), exact(x.astype(np.float64))) < 1e-6
        exact = x + np.sin(alpha.astype(np.float64) * x) ** 2 / alpha
        assert relative(ops.snake(mx.array(x), mx.array(alpha)), exact) < 1e-6


def test_snake_far_out_stays_finite(form: str) -> None:
    y = np.array(ops.snake(mx.array([[[1e8, -1e12, 1e20]]]), mx.array([1.0, 1.0, 1.0])))
    assert np.allclose(y, [[[1e8, -1e12, 1e20]]])


@pytest.mark.parametrize("name", ["gelu", "mish", "snake", "silu"])
def test_gradients_pass(form: str, name: str) -> None:
    x = draw(1, 6, 3)

    def function(x: mx.array) -> mx.array:
        return ops.snake(x, mx.array([0.5, 1, 2])) if name == "snake" else ACTIVATIONS[name][0](x)

    slope = np.array(mx.grad(lambda x: function(x).sum())(mx.array(x)))
    step = 1e-2
    rise = np.array(function(mx.array(x + step)) - function(mx.array(x - step))) / (2 * step)
    assert np.abs(slope - rise).max() < 2e-3


@pytest.mark.parametrize("name", ["gelu", "mish", "snake"])
def test_blocks_leave_the_result_alone(
    form: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = mx.array(draw(3, 700, 5))
    function = {"gelu": ops.gelu, "mish": ops.mish, "snake": lambda x: ops.snake(x, mx.ones(5))}
    whole = function[name](x)
    monkeypatch.setattr(device, "BLOCK", 999)
    assert mx.array_equal(function[name](x), whole)


# Attention


def exact_attention(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float, bias: np.ndarray | float = 0.0
) -> np.ndarray:
    scores = scale * (q.astype(np.float64) @ k.astype(np.float64).swapaxes(2, 3)) + bias
    scores -= scores.max(-1, keepdims=True)
    weights = np.exp(scores)
    return weights / weights.sum(-1, keepdims=True) @ v.astype(np.float64)


@pytest.mark.parametrize("time, keys", [(1, 1), (1, 700), (65, 65), (300, 300), (40, 333)])
def test_attention(form: str, time: int, keys: int) -> None:
    q, k, v = draw(2, 4, time, 64), draw(2, 4, keys, 64, seed=1), draw(2, 4, keys, 64, seed=2)
    ours = ops.attention(*map(mx.array, (q, k, v)), scale=0.3)
    assert relative(ours, exact_attention(q, k, v, 0.3)) < 1e-6


@pytest.mark.parametrize("time, keys", [(1, 9), (50, 50), (300, 300), (40, 333)])
def test_causal_attention(form: str, time: int, keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "BLOCK", 10_000)  # several blocks
    q, k, v = draw(1, 4, time, 16), draw(1, 4, keys, 16, seed=1), draw(1, 4, keys, 16, seed=2)
    ours = ops.attention(*map(mx.array, (q, k, v)), scale=0.25, mask="causal")
    seen = np.arange(keys) <= np.arange(keys - time, keys)[:, None]
    exact = exact_attention(q, k, v, 0.25, np.where(seen, 0, -np.inf))
    assert relative(ours, exact) < 1e-6


@pytest.mark.parametrize(
    "shape", [(2, 3, 50, 60), (2, 1, 1, 60), (1, 1, 50, 60), (50, 60), (1, 60), (2, 1, 50, 60)]
)
@pytest.mark.parametrize("boolean", [True, False])
def test_masked_attention(
    form: str, shape: tuple[int, ...], boolean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "BLOCK", 2_000)
    q, k, v = draw(2, 3, 50, 16), draw(2, 3, 60, 16, seed=1), draw(2, 3, 60, 16, seed=2)
    bias = draw(*shape, seed=3)
    mask = mx.array(bias) > -0.5 if boolean else mx.array(bias)
    ours = ops.attention(*map(mx.array, (q, k, v)), scale=0.25, mask=mask)
    added = np.where(bias > -0.5, 0, -np.inf) if boolean else bias
    assert relative(ours, exact_attention(q, k, v, 0.25, added)) < 1e-6


def test_attention_with_every_key_masked_is_finite(form: str) -> None:
    q, k, v = (mx.array(draw(1, 2, 5, 16, seed=n)) for n in range(3))
    masked = ops.attention(q, k, v, scale=1.0, mask=mx.zeros((1, 1, 5, 5), mx.bool_))
    assert np.isfinite(np.array(masked)).all()


def test_masked_keys_weigh_nothing_at_all(form: str) -> None:
    q, k, v = (mx.array(draw(1, 2, 9, 16, seed=n)) for n in range(3))
    mask = mx.arange(9) < 6
    other = mx.where(mask[:, None], v, 1e6)
    a, b = (ops.attention(q, k, w, scale=1.0, mask=mask[None, None, None]) for w in (v, other))
    assert mx.array_equal(a, b)


def test_gradients_pass_through_attention(form: str) -> None:
    q, k, v = (mx.array(draw(1, 2, 7, 16, seed=n)) for n in range(3))
    weight = mx.array(draw(1, 2, 7, 16, seed=3))

    def score(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (ops.attention(q, k, v, scale=0.3, mask="causal") * weight).sum()

    def plain(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        scores = q @ k.swapaxes(2, 3) * 0.3
        scores = mx.where(mx.tri(7, dtype=mx.bool_), scores, -1e9)
        return (mx.softmax(scores, axis=-1) @ v * weight).sum()

    ours, exact = (mx.grad(f, argnums=(0, 1, 2))(q, k, v) for f in (score, plain))
    for a, b in zip(ours, exact, strict=True):
        assert np.abs(np.array(a - b)).max() < 1e-5


def test_large_scores_neither_overflow_nor_lose_their_place(form: str) -> None:
    q, k, v = draw(1, 2, 20, 16, spread=30), draw(1, 2, 20, 16, seed=1), draw(1, 2, 20, 16, seed=2)
    ours = ops.attention(*map(mx.array, (q, k, v)), scale=1.0)
    assert relative(ours, exact_attention(q, k, v, 1.0)) < 2e-5


def test_attention_holds_one_block_of_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_module, "slow_functions", lambda x: True)
    with mx.stream(mx.cpu):
        q, k, v = (mx.array(draw(1, 8, 1000, 64, seed=n)) for n in range(3))
        mx.eval(q, k, v)
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(ops.attention(q, k, v, scale=0.1))
        assert mx.get_peak_memory() - before < 25e6  # all scores would be 32 MB, twice


# Convolution


def exact_conv1d(
    x: np.ndarray,
    weight: np.ndarray,
    stride: int,
    left: int,
    right: int,
    dilation: int,
    groups: int,
) -> np.ndarray:
    x = np.pad(x.astype(np.float64), [(0, 0), (left, right), (0, 0)])
    out, kernel, inside = weight.shape
    frames = (x.shape[1] - dilation * (kernel - 1) - 1) // stride + 1
    y = np.zeros((x.shape[0], frames, out))
    each = out // groups
    for tap in range(kernel):
        part = x[:, tap * dilation :][:, : (frames - 1) * stride + 1 : stride]
        for g in range(groups):
            inputs = part[..., g * inside : (g + 1) * inside]
            y[..., g * each : (g + 1) * each] += inputs @ weight[g * each : (g + 1) * each, tap].T
    return y


CONVOLUTIONS = [
    # time, inputs, outputs, kernel, stride, padding, dilation, groups
    (50, 24, 20, 3, 1, 1, 1, 1),
    (50, 24, 20, 1, 1, 0, 1, 1),
    (50, 24, 20, 11, 1, 25, 5, 1),
    (50, 24, 20, 7, 1, (6, 0), 1, 1),
    (50, 24, 20, 4, 1, (0, 3), 2, 1),
    (50, 1, 18, 16, 4, 0, 1, 1),
    (50, 3, 18, 7, 1, 3, 1, 1),
    (50, 18, 24, 30, 15, 7, 1, 1),
    (50, 18, 24, 3, 2, 1, 1, 1),
    (50, 18, 24, 3, 2, 1, 2, 1),
    (50, 20, 20, 31, 1, 15, 1, 20),
    (50, 20, 20, 5, 2, 2, 1, 20),
    (50, 20, 12, 5, 1, 2, 1, 4),
]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv1d(form: str, case: tuple, bias: bool, batch: int) -> None:
    time, inputs, outputs, kernel, stride, padding, dilation, groups = case
    left, right = (padding, padding) if isinstance(padding, int) else padding
    x, weight = draw(batch, time, inputs), draw(outputs, kernel, inputs // groups, seed=1)
    shift = draw(outputs, seed=2) if bias else np.zeros(outputs, np.float32)
    exact = exact_conv1d(x, weight, stride, left, right, dilation, groups) + shift
    ours = ops.conv1d(
        mx.array(x),
        mx.array(weight),
        mx.array(shift) if bias else None,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    assert relative(ours, exact) < 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "kernel, stride, padding, inputs",
    [(16, 8, 4, 20), (11, 5, 3, 20), (7, 3, 2, 20), (16, 4, 0, 18), (3, 1, 1, 20), (16, 4, 8, 9)],
)
def test_conv_transpose1d(
    form: str, kernel: int, stride: int, padding: int, inputs: int, batch: int
) -> None:
    x, weight, bias = draw(batch, 30, inputs), draw(6, kernel, inputs, seed=1), draw(6, seed=2)
    full = np.zeros((batch, 29 * stride + kernel, 6))
    for t in range(30):
        full[:, t * stride : t * stride + kernel] += np.einsum(
            "bc,okc->bko", x[:, t].astype(np.float64), weight
        )
    exact = full[:, padding : full.shape[1] - padding] + bias
    ours = ops.conv_transpose1d(
        mx.array(x), mx.array(weight), mx.array(bias), stride=stride, padding=padding
    )
    assert relative(ours, exact) < 1e-6


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(
    "inputs, kernel, stride, padding", [(1, 3, 1, 1), (20, 3, 1, 1), (20, 3, 2, 1), (20, 1, 2, 0)]
)
def test_conv2d(form: str, inputs: int, kernel: int, stride: int, padding: int, batch: int) -> None:
    x, weight = draw(batch, 10, 12, inputs), draw(6, kernel, kernel, inputs, seed=1)
    bias = draw(6, seed=2)
    wide = np.pad(x.astype(np.float64), [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (kernel, kernel), axis=(1, 2))
    exact = np.einsum("bftcij,oijc->bfto", windows[:, ::stride], weight.astype(np.float64)) + bias
    ours = ops.conv2d(mx.array(x), mx.array(weight), mx.array(bias), stride=stride, padding=padding)
    assert relative(ours, exact) < 1e-6


def test_long_convolution_unfolds_nothing() -> None:
    with mx.stream(mx.cpu):
        x, weight = mx.zeros((1, 60_000, 32)), mx.zeros((32, 11, 32))
        mx.eval(x, weight)
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(ops.conv1d(x, weight, mx.zeros(32), padding=25, dilation=5))
        assert mx.get_peak_memory() - before < 5 * x.nbytes  # an unfolding alone is 11


def test_kernels_work_from_any_thread(form: str) -> None:
    results: list[float] = []

    def work() -> None:
        with mx.stream(mx.cpu):
            x = mx.array(draw(1, 500, 32))
            y = ops.gelu(ops.conv1d(x, mx.array(draw(32, 3, 32)), padding=1))
            q = y.reshape(1, 500, 2, 16).swapaxes(1, 2)
            results.append(float(ops.attention(q, q, q, scale=0.25).sum()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2 and results[0] == results[1]
