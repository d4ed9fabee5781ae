"""How one layout's tensor becomes ours: small named functions from source arrays to a target array.

Folds are computed in float64 and given back in float32, so that half-precision output is rounded
once.
"""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def copy(x: Array) -> Array:
    """The same values in the same order."""
    return x


def linear_in_out(x: Array) -> Array:
    """GPT-2's Conv1D stores (in, out); a Linear wants (out, in)."""
    return x.T


def conv1d(x: Array) -> Array:
    """(out, in, kernel) to (out, kernel, in)."""
    return x.transpose(0, 2, 1)


def conv2d(x: Array) -> Array:
    """(out, in, height, width) to (out, height, width, in)."""
    return x.transpose(0, 2, 3, 1)


def conv_transpose1d(x: Array) -> Array:
    """(in, out, kernel) to (out, kernel, in)."""
    return x.transpose(1, 2, 0)


def pointwise(x: Array) -> Array:
    """A convolution of kernel 1, (out, in, 1), to a Linear's (out, in)."""
    if x.shape[2:] != (1,):
        raise ValueError(f"a kernel of shape {x.shape[2:]}, not 1")
    return x[..., 0]


def mlx_pointwise(x: Array) -> Array:
    """MLX's convolution of kernel 1, (out, 1, in), to a Linear's (out, in)."""
    if x.shape[1:2] != (1,):
        raise ValueError(f"a kernel of shape {x.shape[1:2]}, not 1")
    return x[:, 0]


MOVES = frozenset({copy, linear_in_out, conv1d, conv2d, conv_transpose1d, pointwise, mlx_pointwise})
"""Those that change no value."""


def weight_norm(gain: Array, direction: Array) -> Array:
    """gain * direction / |direction|, the norm over all but dim 0 (Salimans and Kingma, 2016)."""
    wide = direction.astype(np.float64)
    norm = np.sqrt(np.sum(wide**2, axis=tuple(range(1, wide.ndim)), keepdims=True))
    return (gain.astype(np.float64) * wide / norm).astype(np.float32)


def conv1d_weight_norm(gain: Array, direction: Array) -> Array:
    """:func:`weight_norm`, then :func:`conv1d`."""
    return conv1d(weight_norm(gain, direction))


def conv_transpose1d_weight_norm(gain: Array, direction: Array) -> Array:
    """:func:`weight_norm` (over the input channel, which is dim 0), then the transposed layout."""
    return conv_transpose1d(weight_norm(gain, direction))


def total(*xs: Array) -> Array:
    """The sum: two LSTM biases that are only ever added."""
    return np.sum([x.astype(np.float64) for x in xs], axis=0).astype(np.float32)


BATCH_NORM_EPS = 1e-5


def batch_norm_scale(weight: Array, variance: Array) -> Array:
    """weight / sqrt(variance + eps)."""
    return (weight / np.sqrt(variance.astype(np.float64) + BATCH_NORM_EPS)).astype(np.float32)


def batch_norm_shift(weight: Array, bias: Array, mean: Array, variance: Array) -> Array:
    """bias - mean * weight / sqrt(variance + eps)."""
    scale = weight / np.sqrt(variance.astype(np.float64) + BATCH_NORM_EPS)
    return (bias - mean * scale).astype(np.float32)


def batch_norm_scale_plain(variance: Array) -> Array:
    """:func:`batch_norm_scale` of a norm without affine."""
    return batch_norm_scale(np.ones_like(variance), variance)


def batch_norm_shift_plain(mean: Array, variance: Array) -> Array:
    """:func:`batch_norm_shift` of a norm without affine."""
    return batch_norm_shift(np.ones_like(mean), np.zeros_like(mean), mean, variance)
