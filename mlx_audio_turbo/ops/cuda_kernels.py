"""Where MLX keeps the kernels that it compiles for CUDA."""

from __future__ import annotations

import logging
import os
from importlib import metadata

import mlx.core as mx

from ..errors import OptionError
from ..files.paths import cache_folder
from .device import device

logger = logging.getLogger("mlx_audio_turbo")

VARIABLE = "MLX_PTX_CACHE_DIR"


def keep_compiled() -> None:
    """Keep them in the user's cache, for each version of MLX and architecture of a GPU.

    MLX compiles some kernels when they are first needed, seconds each, and by default keeps them in
    the system's folder for temporary files. It reads the variable at the first of them.
    """
    if VARIABLE in os.environ or not mx.cuda.is_available() or device().type != mx.DeviceType.gpu:
        return
    architecture = str(mx.device_info(device()).get("architecture", "unknown"))
    name = f"cuda-{metadata.version('mlx')}-{architecture}"
    try:
        folder = cache_folder() / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, OptionError) as error:
        logger.info(f"kernels of CUDA are kept where MLX keeps them: {error}")
        return
    if os.access(folder, os.W_OK):
        os.environ[VARIABLE] = str(folder)
