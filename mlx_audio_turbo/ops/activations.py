"""Activations. On x86-64 they stand on one fast function, ``exp`` by way of MLX's power."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import mlx.core as mx

from .device import in_blocks, on_gpu, slow_functions

# e ** x = (e ** 64) ** (x / 64): of all powers e ** (2 ** n), this one's logarithm suffers least
# from rounding to float32 (6e-10), and x / 64 is exact.
STEP = 1 / 64
_BASE = math.exp(64)
# (1 / Phi(-a)) ** 0.25 for a >= 0, where Phi is the normal distribution's cumulative: a minimax
# polynomial, lowest power first. Phi is then off by at most 1.1e-7, before rounding.
_FOURTH_ROOT = (
    1.18920705, 0.23721841, 0.118207086, 0.0317122385, 0.00525863346, 0.00337929824,
    -0.00108764084, 0.000727761156, -0.00016668627, 2.25511382e-05,
)  # fmt: skip
# u = sin(pi v / 2) ** 2 for |v| <= 0.5 is s (s (s (s + A) + B) + C) D with s = v ** 2, a minimax
# polynomial, and sin(pi v) ** 2 is 4 u (1 - u), then off by 2.6e-8.
_HALF_SINE = (-5.980522126421615, 18.205790262464706, -22.136273783638075)
_HALF_SINE_SCALE = -0.1114641
_ROUNDER = 1.5 * 2**23  # added and taken away again, rounds a float32 below 2 ** 22


def _one_kernel(function: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """``function`` as a single kernel on a GPU. For the CPU, MLX would have to find a compiler."""
    compiled = mx.compile(function, shapeless=True)

    @wraps(function)
    def suited(*arrays: mx.array) -> mx.array:
        return compiled(*arrays) if on_gpu() else function(*arrays)

    return suited


def power_of_e(steps: mx.array) -> mx.array:
    """exp(64 ``steps``), 210 M values/s, 1 ulp; ``mx.exp`` does 79, and 3.9e-6 at the far end."""
    return mx.power(mx.array(_BASE, mx.float32), steps)


def _polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    value = x * coefficients[-1] + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        value = value * x + coefficient
    return value


def exp(x: mx.array) -> mx.array:
    """e ** x."""
    return power_of_e(x * STEP) if slow_functions(x) else mx.exp(x)


def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + exp(-x))."""
    return 1 / (power_of_e(x * -STEP) + 1) if slow_functions(x) else mx.sigmoid(x)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x): 176 M values/s, by ``mx.sigmoid`` 58."""
    return x / (power_of_e(x * -STEP) + 1) if slow_functions(x) else _silu(x)


@_one_kernel
def _silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """x times the normal distribution's cumulative: the exact form, 148 M values/s, by erf 36."""
    if slow_functions(x):
        return in_blocks(_gelu_by_polynomial, x)
    return _gelu(x)


@_one_kernel
def _gelu(x: mx.array) -> mx.array:
    return x * (1 + mx.erf(x * 0.7071067811865476)) * 0.5


def _gelu_by_polynomial(x: mx.array) -> mx.array:
    # x Phi(x) = max(x, 0) - |x| Phi(-|x|), and the second term fades without a branch.
    size = mx.abs(x)
    root = _polynomial(_FOURTH_ROOT, size)
    return mx.maximum(x, 0) - size / mx.square(mx.square(root))


def gelu_tanh(x: mx.array) -> mx.array:
    """The tanh approximation of GELU that GPT-2 was trained with."""
    if slow_functions(x):
        # 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2 u)): 155 M values/s, by tanh 53.
        slope = -2 * 0.7978845608028654 * STEP
        return x / (power_of_e(x * (mx.square(x) * (slope * 0.044715) + slope)) + 1)
    return _gelu_tanh(x)


@_one_kernel
def _gelu_tanh(x: mx.array) -> mx.array:
    return 0.5 * x * (1 + mx.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def mish(x: mx.array) -> mx.array:
    """x * tanh(softplus(x)) (Misra, 2019): 101 M values/s, by tanh 26."""
    if slow_functions(x):
        return in_blocks(_mish_by_power, x)
    return _mish(x)


@_one_kernel
def _mish(x: mx.array) -> mx.array:
    return x * mx.tanh(mx.logaddexp(x, mx.array(0, x.dtype)))


def _mish_by_power(x: mx.array) -> mx.array:
    # tanh(log(1 + e)) = e (e + 2) / (e (e + 2) + 2) with e = exp(x); above 32 it is 1.
    e = power_of_e(mx.minimum(x * STEP, 0.5))
    weight = e * (e + 2)
    return x * (weight / (weight + 2))


@_one_kernel
def elu(x: mx.array) -> mx.array:
    """x where positive, else exp(x) - 1."""
    return mx.maximum(x, 0) + mx.expm1(mx.minimum(x, 0))


def leaky_relu(x: mx.array, slope: float) -> mx.array:
    """x where positive, else slope * x; ``slope`` is below 1."""
    return mx.maximum(x, slope * x)


def snake(x: mx.array, alpha: mx.array) -> mx.array:
    """x + sin(alpha x) ** 2 / alpha, with ``alpha`` one number per channel (Ziyin et al., 2020)."""
    if slow_functions(x):
        turns, scale = alpha * (1 / math.pi), (-4 * _HALF_SINE_SCALE**2) / (alpha + 1e-9)
        return in_blocks(lambda block: block + _sine_squared(block * turns) * scale, x)
    return _snake(x, alpha)


@_one_kernel
def _snake(x: mx.array, alpha: mx.array) -> mx.array:
    return x + mx.square(mx.sin(alpha * x)) / (alpha + 1e-9)


def _sine_squared(turns: mx.array) -> mx.array:
    """sin(pi t) ** 2, but for a factor of -4 D ** 2: 190 M values/s, by ``mx.sin`` 51.

    It has period 1 and one polynomial for all of it. Beyond 2 ** 22 half turns float32 holds no
    phase.
    """
    nearest = mx.stop_gradient((turns + _ROUNDER) - _ROUNDER)
    square = mx.minimum(mx.square(turns - nearest), 0.25)
    value = square + _HALF_SINE[0]
    for coefficient in _HALF_SINE[1:]:
        value = value * square + coefficient
    value = value * square
    return (value - 1 / _HALF_SINE_SCALE) * value
