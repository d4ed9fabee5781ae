"""Each operation on the current device against a plain form in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from .. import ops
from .seeded import spread, uniform

Arrays = tuple[mx.array, ...]
Form = Callable[..., mx.array]


@dataclass(frozen=True)
class Kernel:
    """An operation, its plain form in NumPy's float64 or MLX on the CPU, and its inputs.

    plain: called under the CPU's stream, with the same arguments in float32.
    """

    ours: Form
    plain: Form
    inputs: Callable[[], tuple[np.ndarray, ...]]

    def error(self, dtype: mx.Dtype) -> float:
        """The L2 norm of the difference over that of the plain form; infinite if not finite."""
        arrays = [mx.array(each).astype(dtype) for each in self.inputs()]
        result = np.array(self.ours(*arrays).astype(mx.float32)).astype(np.float64)
        with mx.stream(mx.cpu):
            exact = self.plain(*(each.astype(mx.float32) for each in arrays))
            expected = np.array(exact).astype(np.float64)
        if result.shape != expected.shape or not np.isfinite(result).all():
            return float("inf")
        return float(np.linalg.norm(result - expected) / np.linalg.norm(expected))


def _range() -> tuple[np.ndarray]:
    return (8 * uniform("activations", (3, 65, 64)),)


def _gelu(x: mx.array) -> mx.array:
    return 0.5 * x * (1 + mx.erf(x * 0.5**0.5))


def _gelu_tanh(x: mx.array) -> mx.array:
    return 0.5 * x * (1 + mx.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def _snake(x: mx.array, alpha: mx.array) -> mx.array:
    return x + mx.square(mx.sin(alpha * x)) / alpha


def _attention(mask: str | bool = False) -> tuple[Form, Form]:
    """Ours and softmax(q k / 8) v with no mask, a causal one, or a boolean one."""

    def visible(rows: int, keys: int) -> mx.array:
        queries = mx.arange(keys - rows, keys)[:, None]
        return mx.arange(keys) <= queries if mask == "causal" else mx.arange(keys) % 7 < 5

    def ours(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        given = "causal" if mask == "causal" else None
        if mask is True:
            given = mx.broadcast_to(visible(q.shape[2], k.shape[2]), (q.shape[2], k.shape[2]))
        return ops.attention(q, k, v, scale=0.125, mask=given)

    def plain(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        scores = 0.125 * q @ k.swapaxes(2, 3)
        if mask:
            scores = mx.where(visible(q.shape[2], k.shape[2]), scores, -mx.inf)
        return mx.softmax(scores, axis=-1) @ v

    return ours, plain


def _heads(time: int) -> Callable[[], tuple[np.ndarray, ...]]:
    return lambda: tuple(spread(name, 2, 4, time, 64) for name in "qkv")


def _bias_attention(q: mx.array, k: mx.array, v: mx.array, bias: mx.array) -> mx.array:
    return ops.attention(q, k, v, scale=0.125, mask=bias)


def _plain_bias_attention(q: mx.array, k: mx.array, v: mx.array, bias: mx.array) -> mx.array:
    return mx.softmax(0.125 * q @ k.swapaxes(2, 3) + bias, axis=-1) @ v


def _conv(**options: int) -> tuple[Form, Form]:
    def ours(x: mx.array, weight: mx.array) -> mx.array:
        return ops.conv1d(x, weight, **options)  # type: ignore[arg-type]

    def plain(x: mx.array, weight: mx.array) -> mx.array:
        return mx.conv1d(x, weight, **options)  # type: ignore[arg-type]

    return ours, plain


def _transposed(stride: int, padding: int) -> tuple[Form, Form]:
    def ours(x: mx.array, weight: mx.array) -> mx.array:
        return ops.conv_transpose1d(x, weight, stride=stride, padding=padding)

    def plain(x: mx.array, weight: mx.array) -> mx.array:
        return mx.conv_transpose1d(x, weight, stride=stride, padding=padding)

    return ours, plain


def _kernel(*shape: int) -> np.ndarray:
    return spread("kernel", *shape) / np.float32(np.prod(shape[1:]) ** 0.5)


def _sequence(channels: int, *shape: int) -> Callable[[], tuple[np.ndarray, ...]]:
    return lambda: (spread("sequence", 1, 233, channels), _kernel(*shape))


def _norm(x: mx.array, weight: mx.array) -> mx.array:
    mean = x.mean(axis=-1, keepdims=True)
    deviation = mx.sqrt(mx.square(x - mean).mean(axis=-1, keepdims=True) + 1e-5)
    return (x - mean) / deviation * weight


def _rotate(x: mx.array) -> mx.array:
    half = x.shape[-1] // 2
    rates = mx.exp(mx.arange(half) * (-np.log(10_000.0) / half))
    angle = mx.arange(x.shape[2])[:, None] * rates
    first, second = x[..., :half], x[..., half:]
    turned = [
        first * mx.cos(angle) - second * mx.sin(angle),
        first * mx.sin(angle) + second * mx.cos(angle),
    ]
    return mx.concatenate(turned, axis=-1)


def _rope(x: mx.array) -> mx.array:
    return mx.fast.rope(x, 64, traditional=False, base=10_000.0, scale=1.0, offset=0)


def _unused() -> tuple[np.ndarray]:
    return (np.ones(1, np.float32),)


def _random_integers(x: mx.array) -> mx.array:
    return mx.random.randint(0, 65_536, (4096,), key=mx.random.key(7)).astype(mx.float32)


def _normal(x: mx.array) -> mx.array:
    return mx.random.normal((4096,), key=mx.random.key(7))


def _sorted_sum(x: mx.array) -> mx.array:
    order = mx.argsort(x, axis=-1)
    return mx.cumsum(mx.take_along_axis(x, order, axis=-1).astype(mx.float32), axis=-1)


def _heads_of(batch: int, heads: int, time: int, *, three: bool = False) -> tuple[np.ndarray, ...]:
    names = "qkv" if three else "kv"
    return tuple(spread(name, batch, heads, time, 64) for name in names)


KERNELS: Mapping[str, Kernel] = {
    "gelu": Kernel(ops.gelu, _gelu, _range),
    "gelu_tanh": Kernel(ops.gelu_tanh, _gelu_tanh, _range),
    "silu": Kernel(ops.silu, lambda x: x / (1 + mx.exp(-x)), _range),
    "mish": Kernel(ops.mish, lambda x: x * mx.tanh(mx.log1p(mx.exp(x))), _range),
    "elu": Kernel(ops.elu, lambda x: mx.where(x > 0, x, mx.exp(x) - 1), _range),
    "leaky_relu": Kernel(
        lambda x: ops.leaky_relu(x, 0.1), lambda x: mx.where(x > 0, x, 0.1 * x), _range
    ),
    "snake": Kernel(
        ops.snake,
        _snake,
        lambda: (8 * uniform("snake", (2, 129, 64)), np.geomspace(0.01, 20, 64, dtype=np.float32)),
    ),
    "attention of one query": Kernel(
        *_attention(), lambda: (spread("q", 1, 16, 1, 64), *_heads_of(1, 16, 417))
    ),
    "attention": Kernel(*_attention(), _heads(257)),
    "causal attention": Kernel(*_attention("causal"), _heads(130)),
    "masked attention": Kernel(*_attention(True), _heads(77)),
    "attention with a bias": Kernel(
        _bias_attention,
        _plain_bias_attention,
        lambda: (*_heads_of(2, 4, 145, three=True), spread("bias", 2, 4, 145, 145)),
    ),
    "convolution": Kernel(*_conv(padding=1), _sequence(96, 64, 3, 96)),
    "dilated convolution": Kernel(*_conv(padding=25, dilation=5), _sequence(64, 64, 11, 64)),
    "strided convolution": Kernel(*_conv(stride=15, padding=7), _sequence(18, 64, 30, 18)),
    "depthwise convolution": Kernel(*_conv(padding=15, groups=64), _sequence(64, 64, 31, 1)),
    "transposed convolution, 8": Kernel(*_transposed(8, 4), _sequence(64, 32, 16, 64)),
    "transposed convolution, 5": Kernel(*_transposed(5, 3), _sequence(64, 32, 11, 64)),
    "transposed convolution, 3": Kernel(*_transposed(3, 2), _sequence(64, 32, 7, 64)),
    "2-D convolution": Kernel(
        lambda x, w: ops.conv2d(x, w, stride=2, padding=1),
        lambda x, w: mx.conv2d(x, w, stride=(2, 1), padding=1),
        lambda: (spread("image", 1, 20, 51, 32), _kernel(32, 3, 3, 32)),
    ),
    "matrix product": Kernel(
        lambda x, w: x @ w.T,
        lambda x, w: x @ w.T,
        lambda: (spread("sequence", 1, 233, 512), _kernel(384, 512)),
    ),
    "product of one row": Kernel(
        lambda x, w: x @ w.T,
        lambda x, w: x @ w.T,
        lambda: (spread("row", 1, 1024), _kernel(4096, 1024)),
    ),
    "layer norm": Kernel(
        lambda x, w: mx.fast.layer_norm(x, w, None, 1e-5),
        _norm,
        lambda: (spread("sequence", 1, 233, 512) * 30, 1 + 0.1 * uniform("gain", (512,))),
    ),
    "rotary positions": Kernel(_rope, _rotate, lambda: (spread("heads", 1, 4, 111, 64),)),
    "sort and sum": Kernel(_sorted_sum, _sorted_sum, lambda: (np.abs(spread("s", 2, 6563)),)),
    "random integers": Kernel(
        _random_integers, _random_integers, lambda: (np.ones(1, np.float32),)
    ),
    "normal numbers": Kernel(_normal, _normal, lambda: (np.ones(1, np.float32),)),
}
