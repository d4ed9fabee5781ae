"""Activations, each in the form that suits the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import mlx.core as mx

from .device import in_blocks, on_gpu, slow_functions
from .fast_math import (
    SINE_SQUARED_SCALE,
    STEP,
    exp_of_steps,
    fast_gelu,
    fast_mish,
    sine_squared,
)


def _one_kernel(function: Callable[..., mx.array]) -> Callable[..., mx.array]:
    """``function`` as a single kernel on a GPU. For the CPU, MLX would need a compiler."""
    compiled = mx.compile(function, shapeless=True)

    @wraps(function)
    def suited(*arrays: mx.array) -> mx.array:
        return compiled(*arrays) if on_gpu() else function(*arrays)

    return suited


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    return x / (exp_of_steps(x * -STEP) + 1) if slow_functions(x) else _silu(x)


@_one_kernel
def _silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """x times the normal distribution's cumulative: the exact form."""
    return in_blocks(fast_gelu, x) if slow_functions(x) else _gelu(x)


@_one_kernel
def _gelu(x: mx.array) -> mx.array:
    # Halved first: twice a large float16 is infinite.
    return 0.5 * x * (1 + mx.erf(x * 0.7071067811865476))


def gelu_tanh(x: mx.array) -> mx.array:
    """The tanh approximation of GELU, GPT-2's."""
    if slow_functions(x):
        # 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2 u))
        slope = -2 * 0.7978845608028654 * STEP
        return x / (exp_of_steps(x * (mx.square(x) * (slope * 0.044715) + slope)) + 1)
    return _gelu_tanh(x)


@_one_kernel
def _gelu_tanh(x: mx.array) -> mx.array:
    return 0.5 * x * (1 + mx.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def mish(x: mx.array) -> mx.array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    return in_blocks(fast_mish, x) if slow_functions(x) else _mish(x)


@_one_kernel
def _mish(x: mx.array) -> mx.array:
    return x * mx.tanh(mx.logaddexp(x, mx.array(0, x.dtype)))


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
        turns, scale = alpha * (1 / math.pi), SINE_SQUARED_SCALE / (alpha + 1e-9)
        return in_blocks(lambda y: y + sine_squared(y * turns) * scale, x)
    return _snake(x, alpha)


@_one_kernel
def _snake(x: mx.array, alpha: mx.array) -> mx.array:
    # In float32: in half precision a small alpha gives 0 / 0.
    wide, alpha = x.astype(mx.float32), alpha.astype(mx.float32)
    return (wide + mx.square(mx.sin(alpha * wide)) / (alpha + 1e-9)).astype(x.dtype)
