"""Convolutions. On the CPU they are sums of matrix products, computed by its BLAS.

MLX's own dilated and transposed convolutions are about 50 times slower there. On CUDA the same
forms avoid cuDNN, which makes a plan for each shape: every new length of an utterance has about 50.
Metal runs MLX's own.

Dimensions: B batch, T time, C channels in, O channels out, K kernel, F frequency.
"""

from __future__ import annotations

import mlx.core as mx

from .device import on_cuda, on_gpu

_NARROW = 16  # channels


def _native() -> bool:
    """Whether MLX's own convolutions are best: on Metal."""
    return on_gpu() and not on_cuda()


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
    if _native() and left == right and groups == 1:
        y = mx.conv1d(x, weight, stride, left, dilation, groups)
        return y if bias is None else y + bias
    if left or right:
        x = mx.pad(x, [(0, 0), (left, right), (0, 0)])
    depthwise = groups == x.shape[-1] == weight.shape[0] > 1
    if _native() or (groups > 1 and not depthwise):  # Metal's depthwise kernel takes no padding
        y = mx.conv1d(x, weight, stride, 0, dilation, groups)
    elif depthwise:
        y = _depthwise_conv1d(x, weight, stride, dilation)
    elif stride > 1 or weight.shape[2] < _NARROW:
        y = _unfolded_conv1d(x, weight, stride, dilation)
    else:
        return _conv1d_by_taps(x, weight, bias, dilation)
    return y if bias is None else y + bias


def _conv1d_by_taps(
    x: mx.array, weight: mx.array, bias: mx.array | None, dilation: int
) -> mx.array:
    # One product for each of the K taps, added up by the BLAS. The input is read in place whatever
    # the dilation; unfolding it takes 2 to 3 times as long and K times the memory.
    kernel = weight.shape[1]
    time = x.shape[1] - dilation * (kernel - 1)
    taps = [weight[:, tap].T for tap in range(kernel)]  # (C, O) each
    y = x[:, :time] @ taps[0] if bias is None else mx.addmm(bias, x[:, :time], taps[0])
    for tap in range(1, kernel):
        start = tap * dilation
        y = mx.addmm(y, x[:, start : start + time], taps[tap])
    return y


def _unfolded_conv1d(x: mx.array, weight: mx.array, stride: int, dilation: int) -> mx.array:
    # With a stride, the windows hold only K / stride times the input.
    out, kernel, channels = weight.shape
    batch, time, _ = x.shape
    frames = (time - dilation * (kernel - 1) - 1) // stride + 1
    windows = mx.as_strided(
        mx.contiguous(x),
        (batch, frames, kernel, channels),
        (time * channels, stride * channels, dilation * channels, 1),
    )
    return windows.reshape(batch, frames, kernel * channels) @ weight.reshape(out, -1).T


def _depthwise_conv1d(x: mx.array, weight: mx.array, stride: int, dilation: int) -> mx.array:
    # A sum of K shifted products, 3 times as fast as MLX's grouped form.
    taps = mx.contiguous(weight[:, :, 0].T)
    kernel = taps.shape[0]
    span = x.shape[1] - dilation * (kernel - 1)
    total = x[:, :span:stride] * taps[0]
    for tap in range(1, kernel):
        start = tap * dilation
        total = total + x[:, start : start + span : stride] * taps[tap]
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
    # The phase form: an ordinary convolution whose channels are all ``stride`` samples of a step,
    # the kernel padded to whole steps. A product and overlap-add takes 4 times as long on a CPU;
    # Metal's transposed convolution unfolds the zeros between steps, ``stride`` times the work.
    out, kernel, channels = weight.shape
    batch, time, _ = x.shape
    steps = -(-kernel // stride)
    phases = mx.pad(weight, [(0, 0), (0, steps * stride - kernel), (0, 0)])
    phases = phases.reshape(out, steps, stride, channels)[:, ::-1].transpose(2, 0, 1, 3)
    phases = phases.reshape(stride * out, steps, channels)
    y = conv1d(x, phases, padding=steps - 1).reshape(batch, -1, out)
    y = y[:, padding : (time - 1) * stride + kernel - padding]
    return y if bias is None else y + bias


def conv2d(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
) -> mx.array:
    """Cross-correlate ``x`` (B, F, T, C) with ``weight`` (O, K, K, C); gives (B, F', T', O).

    ``stride`` is that of F, T keeps its own; ``padding`` is on all four sides, with zeros.
    """
    kernel, channels = weight.shape[1], weight.shape[3]
    if _native() or channels < _NARROW:
        y = mx.conv2d(x, weight, (stride, 1), padding)
        return y if bias is None else y + bias
    # A product for each tap, as in one dimension. With the lines of the image laid end to end, a
    # tap is a shift; what it reads from the next line ends up in the K - 1 frames that are cut off.
    x = mx.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    batch, lines, time, _ = x.shape
    height = (lines - kernel) // stride + 1
    length = height * time - (kernel - 1)
    taps = weight.transpose(1, 2, 3, 0)[:, :, None]  # (K, K, 1, C, O)
    y = bias
    for row in range(kernel):
        image = x[:, row : row + (height - 1) * stride + 1 : stride]
        image = image.reshape(batch, height * time, channels)
        for column in range(kernel):
            part = image[:, column : column + length]
            tap = taps[row, column]
            y = part @ tap if y is None else mx.addmm(y, part, tap)
    assert y is not None
    y = mx.pad(y, [(0, 0), (0, kernel - 1), (0, 0)]).reshape(batch, height, time, -1)
    return y[:, :, : time - kernel + 1]
