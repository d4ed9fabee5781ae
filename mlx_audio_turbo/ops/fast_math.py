"""Elementary functions for MLX's CPU back end on x86-64, in float32.

MLX's wheel computes exp, tanh, erf and sin value by value there; powers, sums and products are
vectorised. Each function below is written in those.
"""

from __future__ import annotations

import math

import mlx.core as mx

# e ** x = (e ** 64) ** (x / 64): of all powers e ** (2 ** n), this one's logarithm loses least to
# rounding to float32 (6e-10), and x / 64 is exact.
STEP = 1 / 64
_BASE = math.exp(64)
# (1 / Phi(-a)) ** 0.25 for a >= 0, where Phi is the normal distribution's cumulative: a minimax
# polynomial, lowest power first. Phi is then off by at most 1.1e-7, before rounding.
FOURTH_ROOT = (
    1.18920705, 0.23721841, 0.118207086, 0.0317122385, 0.00525863346, 0.00337929824,
    -0.00108764084, 0.000727761156, -0.00016668627, 2.25511382e-05,
)  # fmt: skip
# u = sin(pi v / 2) ** 2 for |v| <= 0.5 is s (s (s (s + A) + B) + C) D with s = v ** 2, a minimax
# polynomial, and sin(pi v) ** 2 is 4 u (1 - u), then off by 2.6e-8.
HALF_SINE = (-5.980522126421615, 18.205790262464706, -22.136273783638075)
HALF_SINE_SCALE = -0.1114641
SINE_SQUARED_SCALE = -4 * HALF_SINE_SCALE**2
"""Factor of :func:`sine_squared`."""
ROUNDER = 1.5 * 2**23  # added and subtracted, rounds a float32 below 2 ** 22
# 2 ** f for |f| <= 0.5 is, but for a factor, (1 / (4 B) + f / ((f - B) ** 2 + G)) ** 2: Padé's form
# of exp(f / 2), fitted to a relative error of 2.7e-8. It takes 7 passes, a polynomial 10.
_CENTRE, _OFFSET = 8.661586359514256, 24.945182349427355
# Added to a float32 n + f with |f| <= 0.5, it leaves n + 127, the exponent of 2 ** n, in the last
# bits.
_TO_EXPONENT = 1.5 * 2**23 + 127


def exp_of_steps(steps: mx.array) -> mx.array:
    """exp(x) of ``steps`` = x * :data:`STEP`, to 1 ulp."""
    return mx.power(mx.array(_BASE, mx.float32), steps)


def exp2_times_constant(x: mx.array) -> mx.array:
    """2 ** x / 1200 for x <= 0, and that of -100 below: 0 beside the largest weight of a row.

    No value comes near the subnormal numbers, which cost a hundredfold.
    """
    x = mx.maximum(x, -100.0)
    shifted = x + _TO_EXPONENT
    fraction = x - mx.stop_gradient(shifted - _TO_EXPONENT)
    ratio = fraction / (mx.square(fraction - _CENTRE) + _OFFSET)
    exponent = mx.left_shift(shifted.view(mx.int32), 23).view(mx.float32)
    return mx.square(ratio + 0.25 / _CENTRE) * mx.stop_gradient(exponent)


def sine_squared(turns: mx.array) -> mx.array:
    """sin(pi ``turns``) ** 2 / :data:`SINE_SQUARED_SCALE`.

    It has period 1 and one polynomial for all of it. Beyond 2 ** 22 half turns float32 holds no
    phase.
    """
    nearest = mx.stop_gradient((turns + ROUNDER) - ROUNDER)
    square = mx.minimum(mx.square(turns - nearest), 0.25)
    value = square + HALF_SINE[0]
    for coefficient in HALF_SINE[1:]:
        value = value * square + coefficient
    value = value * square
    return (value - 1 / HALF_SINE_SCALE) * value


def fast_gelu(x: mx.array) -> mx.array:
    """x Phi(x) = max(x, 0) - |x| Phi(-|x|), without a branch."""
    size = mx.abs(x)
    root = size * FOURTH_ROOT[-1] + FOURTH_ROOT[-2]
    for coefficient in FOURTH_ROOT[-3::-1]:
        root = root * size + coefficient
    return mx.maximum(x, 0) - size / mx.square(mx.square(root))


def fast_mish(x: mx.array) -> mx.array:
    """x tanh(log(1 + e)) = x e (e + 2) / (e (e + 2) + 2) with e = exp(x); x itself above 32."""
    e = exp_of_steps(mx.minimum(x * STEP, 0.5))
    weight = e * (e + 2)
    return x * (weight / (weight + 2))
