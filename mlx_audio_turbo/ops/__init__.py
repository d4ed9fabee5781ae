"""The kernels whose best form depends on the device.

Every function is equal on every device within float32 rounding. Arrays are ``(batch, time,
channels)``. docs/kernels.md has the measurements behind each form.
"""

from .activations import elu, gelu, gelu_tanh, leaky_relu, mish, silu, snake
from .attention import attention, split_heads
from .convolution import conv1d, conv2d, conv_transpose1d
from .device import fused, gpu_memory, on_gpu, pinned

__all__ = [
    "attention",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "elu",
    "fused",
    "gelu",
    "gelu_tanh",
    "gpu_memory",
    "leaky_relu",
    "mish",
    "on_gpu",
    "pinned",
    "silu",
    "snake",
    "split_heads",
]
