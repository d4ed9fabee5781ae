"""The few kernels whose best form depends on the device.

Every function is equal on every device within float32 rounding; only the way there differs. Arrays
are ``(batch, time, channels)``. Where a form was chosen by measurement, the figure stands beside
it: seconds of one core's time, x86-64 at 2.6 GHz with MKL, MLX 0.32.
"""

from .activations import elu, exp, gelu, gelu_tanh, leaky_relu, mish, sigmoid, silu, snake
from .attention import attention
from .convolution import conv1d, conv2d, conv_transpose1d
from .device import on_gpu

__all__ = [
    "attention",
    "conv1d",
    "conv2d",
    "conv_transpose1d",
    "elu",
    "exp",
    "gelu",
    "gelu_tanh",
    "leaky_relu",
    "mish",
    "on_gpu",
    "sigmoid",
    "silu",
    "snake",
]
