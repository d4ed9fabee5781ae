"""Activations, each in the form that suits the device."""

from __future__ import annotations

import math

import mlx.core as mx

from .device import fused, in_blocks, slow_functions
from .fast_math import (
    SINE_SQUARED_SCALE,
    STEP,
    exp_of_steps,
    fast_gelu,
    fast_mish,
    sine_squared,
)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    return x / (exp_of_steps(x * -STEP) + 1) if slow_functions(x) else _silu(x)


@fused(shapeless=True)
def _silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


def gelu(x: mx.array) -> mx.array:
    """x times the normal distribution's cumulative: the exact form."""
    return in_blocks(fast_gelu, x) if slow_functions(x) else _gelu(x)


@fused(shapeless=True, long=True)
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


@fused(shapeless=True, long=True)
def _gelu_tanh(x: mx.array) -> mx.array:
    # 0.5 (1 + tanh(u)) = sigmoid(2 u). MLX would cut the longer chain with tanh into two kernels.
    slope = 2 * 0.7978845608028654
    return x * mx.sigmoid(x * (slope + slope * 0.044715 * mx.square(x)))


def mish(x: mx.array) -> mx.array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    return in_blocks(fast_mish, x) if slow_functions(x) else _mish(x)


@fused(shapeless=True)
def _mish(x: mx.array) -> mx.array:
    return x * mx.tanh(mx.logaddexp(x, mx.array(0, x.dtype)))


@fused(shapeless=True)
def elu(x: mx.array) -> mx.array:
    """x where positive, else exp(x) - 1."""
    return mx.maximum(x, 0) + mx.expm1(mx.minimum(x, 0))


@fused(shapeless=True)
def leaky_relu(x: mx.array, slope: float) -> mx.array:
    """x where positive, else slope * x; ``slope`` is below 1."""
    return mx.maximum(x, slope * x)


def snake(x: mx.array, alpha: mx.array) -> mx.array:
    """x + sin(alpha x) ** 2 / alpha, with ``alpha`` one number per channel (Ziyin et al., 2020)."""
    if slow_functions(x):
        turns, scale = alpha * (1 / math.pi), SINE_SQUARED_SCALE / (alpha + 1e-9)
        return in_blocks(lambda y: y + sine_squared(y * turns) * scale, x)
    return _snake(x, alpha)


@fused(shapeless=True, long=True)
def _snake(x: mx.array, alpha: mx.array) -> mx.array:
    # In float32: in half precision a small alpha gives 0 / 0.
    wide, alpha = x.astype(mx.float32), alpha.astype(mx.float32)
    return (wide + mx.square(mx.sin(alpha * wide)) / (alpha + 1e-9)).astype(x.dtype)
