"""The few kernels whose best form depends on the device.

Every function is equal on every device within float32 rounding; only the way there differs. Arrays
are ``(batch, time, channels)``.

Dimensions: B batch, T time, C channels in, O channels out, K kernel, H heads, D head width.
"""

from __future__ import annotations

import mlx.core as mx


def on_gpu() -> bool:
    """Whether new work goes to a GPU."""
    return mx.default_device().type == mx.DeviceType.gpu


def conv1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
    groups: int = 1,
) -> mx.array:
    """Cross-correlate ``x`` (B, T, C) with ``weight`` (O, K, C / groups); gives (B, T', O).

    ``padding`` is one number for both sides or (left, right), with zeros.
    """
    left, right = (padding, padding) if isinstance(padding, int) else padding
    if on_gpu():
        if left == right:
            y = mx.conv1d(x, weight, stride, left, dilation, groups)
        else:
            y = mx.conv1d(
                mx.pad(x, [(0, 0), (left, right), (0, 0)]), weight, stride, 0, dilation, groups
            )
        return y if bias is None else y + bias
    if left or right:
        x = mx.pad(x, [(0, 0), (left, right), (0, 0)])
    if groups == x.shape[-1] == weight.shape[0] > 1:
        y = _depthwise_conv1d(x, weight, stride, dilation)
    elif groups > 1:
        y = mx.conv1d(x, weight, stride, 0, dilation, groups)
    else:
        y = _unfolded_conv1d(x, weight, stride, dilation)
    return y if bias is None else y + bias


def _unfolded_conv1d(x: mx.array, weight: mx.array, stride: int, dilation: int) -> mx.array:
    out, kernel, channels = weight.shape
    batch, time, _ = x.shape
    frames = (time - dilation * (kernel - 1) - 1) // stride + 1
    if kernel == 1 and stride == 1:
        return x @ weight[:, 0].T
    x = mx.contiguous(x)
    windows = mx.as_strided(
        x,
        (batch, frames, kernel, channels),
        (time * channels, stride * channels, dilation * channels, 1),
    )
    return windows.reshape(batch, frames, kernel * channels) @ weight.reshape(out, -1).T


def _depthwise_conv1d(x: mx.array, weight: mx.array, stride: int, dilation: int) -> mx.array:
    # A sum of K shifted products: twice as fast as MLX's grouped convolution (375 x 1280, K 31).
    kernel = weight.shape[1]
    span = x.shape[1] - dilation * (kernel - 1)
    total = x[:, :span:stride] * weight[:, 0, 0]
    for tap in range(1, kernel):
        start = tap * dilation
        total = total + x[:, start : start + span : stride] * weight[:, tap, 0]
    return total


def conv_transpose1d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> mx.array:
    """Transposed convolution of ``x`` (B, T, C) with ``weight`` (O, K, C).

    Gives (B, (T - 1) * stride - 2 * padding + K, O).
    """
    if on_gpu():
        y = mx.conv_transpose1d(x, weight, stride, padding)
        return y if bias is None else y + bias
    out, kernel, channels = weight.shape
    batch, time, _ = x.shape
    # One product gives each input frame's K outputs; frames overlap in ceil(K / stride) shifts.
    shifts = -(-kernel // stride)
    columns = (x @ weight.transpose(2, 1, 0).reshape(channels, kernel * out)).reshape(
        batch, time, kernel, out
    )
    columns = mx.pad(columns, [(0, 0), (0, 0), (0, shifts * stride - kernel), (0, 0)])
    columns = columns.reshape(batch, time, shifts, stride, out)
    total = None
    for shift in range(shifts):
        part = mx.pad(
            columns[:, :, shift], [(0, 0), (shift, shifts - 1 - shift), (0, 0), (0, 0)]
        )
        total = part if total is None else total + part
    assert total is not None
    length = (time - 1) * stride + kernel
    y = total.reshape(batch, -1, out)[:, padding : length - padding]
    return y if bias is None else y + bias


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: mx.array | str | None = None,
) -> mx.array:
    """Scaled dot-product attention over (B, H, T, D); ``mask`` is additive, boolean or "causal"."""
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)


def gelu(x: mx.array) -> mx.array:
    """x times the normal distribution's cumulative: the exact form, by erf."""
    return x * (1 + mx.erf(x * 0.7071067811865476)) * 0.5


def gelu_tanh(x: mx.array) -> mx.array:
    """The tanh approximation of GELU that GPT-2 was trained with."""
    return 0.5 * x * (1 + mx.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    return x * mx.sigmoid(x)


def mish(x: mx.array) -> mx.array:
    """x * tanh(softplus(x)) (Misra, 2019)."""
    return x * mx.tanh(mx.logaddexp(x, mx.array(0, x.dtype)))


def elu(x: mx.array) -> mx.array:
    """x where positive, else exp(x) - 1."""
    return mx.where(x > 0, x, mx.expm1(mx.minimum(x, 0)))


def leaky_relu(x: mx.array, slope: float) -> mx.array:
    """x where positive, else slope * x; ``slope`` is below 1."""
    return mx.maximum(x, slope * x)


def snake(x: mx.array, alpha: mx.array) -> mx.array:
    """x + sin(alpha x) ** 2 / alpha, with ``alpha`` one number per channel (Ziyin et al., 2020)."""
    wave = mx.sin(alpha * x)
    return x + wave * wave / (alpha + 1e-9)
