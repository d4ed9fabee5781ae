"""``python -m tests.measure.kernels``: our kernels beside MLX's own, a table of docs/kernels.md.

Times are processor time of one core, the least of several runs, on MLX's CPU device.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import mlx.core as mx

from mlx_audio_turbo import ops
from mlx_audio_turbo.ops import blas, fast_math

from .parity.table import write_docs

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kernels.md"
BEGIN, END = "<!-- kernels: made by tests.measure.kernels -->", "<!-- kernels: end -->"
Kernel = Callable[[], mx.array]
MIB = 1 << 20


def normal(*shape: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(len(shape)))


def elementwise() -> Iterator[tuple[str, Kernel, Kernel]]:
    x, alpha = normal(1, 4000, 256), mx.abs(normal(256)) + 0.3
    yield "exp, 1 M values", lambda: fast_math.exp_of_steps(x * fast_math.STEP), lambda: mx.exp(x)
    yield "SiLU", lambda: ops.silu(x), lambda: x * mx.sigmoid(x)
    yield "GELU", lambda: ops.gelu(x), lambda: x * (1 + mx.erf(x * 0.70710678)) * 0.5
    yield (
        "GELU, tanh form",
        lambda: ops.gelu_tanh(x),
        lambda: 0.5 * x * (1 + mx.tanh(0.79788456 * (x + 0.044715 * x * x * x))),
    )
    yield "Mish", lambda: ops.mish(x), lambda: x * mx.tanh(mx.logaddexp(x, mx.array(0.0)))
    yield (
        "Snake",
        lambda: ops.snake(x, alpha),
        lambda: x + mx.square(mx.sin(alpha * x)) / (alpha + 1e-9),
    )


def attention() -> Iterator[tuple[str, Kernel, Kernel]]:
    for what, heads, time_, mask in (
        ("attention, 8 heads, 1,000 x 1,000", 8, 1000, None),
        ("causal, 16 heads, 700 x 700", 16, 700, "causal"),
    ):
        q, k, v = (normal(1, heads, time_, 64) for _ in range(3))
        yield (
            what,
            lambda q=q, k=k, v=v, mask=mask: ops.attention(q, k, v, scale=0.125, mask=mask),
            lambda q=q, k=k, v=v, mask=mask: mx.fast.scaled_dot_product_attention(
                q, k, v, scale=0.125, mask=mask
            ),
        )


def convolution() -> Iterator[tuple[str, Kernel, Kernel]]:
    for what, frames, inputs, outputs, kernel, dilation in (
        ("conv1d, 60,000 x 64, K 11", 60_000, 64, 64, 11, 1),
        ("conv1d, 20,000 x 128, K 7, dilation 3", 20_000, 128, 128, 7, 3),
    ):
        x, w, pad = normal(1, frames, inputs), normal(outputs, kernel, inputs), kernel // 2
        yield (
            what,
            lambda x=x, w=w, p=pad * dilation, d=dilation: ops.conv1d(x, w, padding=p, dilation=d),
            lambda x=x, w=w, p=pad * dilation, d=dilation: mx.conv1d(x, w, 1, p, d),
        )
    x, w = normal(1, 375, 1280), normal(1280, 31, 1)
    yield (
        "depthwise, 375 x 1,280, K 31",
        lambda x=x, w=w: ops.conv1d(x, w, padding=15, groups=1280),
        lambda x=x, w=w: mx.conv1d(x, w, 1, 15, 1, 1280),
    )
    x, w = normal(1, 20_000, 128), normal(64, 7, 128)
    yield (
        "transposed, 20,000 x 128 to 60,000 x 64, K 7",
        lambda x=x, w=w: ops.conv_transpose1d(x, w, stride=3, padding=2),
        lambda x=x, w=w: mx.conv_transpose1d(x, w, 3, 2),
    )
    x, w = normal(1, 80, 1000, 32), normal(32, 3, 3, 32)
    yield (
        "conv2d, 80 x 1,000 x 32, K 3",
        lambda x=x, w=w: ops.conv2d(x, w, padding=1),
        lambda x=x, w=w: mx.conv2d(x, w, 1, 1),
    )


def measured(kernel: Kernel) -> tuple[float, float]:
    """Least milliseconds of processor time, and MiB above what was there before."""
    mx.eval(kernel())
    seconds: list[float] = []
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    while len(seconds) < 3 or (sum(seconds) < 0.5 and len(seconds) < 20):
        started = time.process_time()
        mx.eval(kernel())
        seconds.append(time.process_time() - started)
    return 1e3 * min(seconds), (mx.get_peak_memory() - before) / MIB


def table() -> Iterator[str]:
    yield "| kernel | ours, ms | MLX's, ms | ratio | ours, MiB | MLX's, MiB |"
    yield "|---|---|---|---|---|---|"
    for cases in (elementwise, attention, convolution):
        for what, ours, theirs in cases():
            (a, b), (c, d) = measured(ours), measured(theirs)
            yield f"| {what} | {a:.1f} | {c:.1f} | {c / a:.1f} | {b:.0f} | {d:.0f} |"


def main() -> int:
    state = blas.load()
    with mx.stream(mx.cpu), blas.one_thread():
        lines = list(table())
    device = f"MLX {metadata.version('mlx')}, {sys.platform}; products by {state.description}."
    write_docs(PAGE, BEGIN, END, "\n".join([device, "", *lines]))
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
