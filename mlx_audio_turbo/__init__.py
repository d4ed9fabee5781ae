"""Chatterbox Turbo on MLX: text and a reference clip in, 24 kHz speech out."""

import logging

from .ops import blas

# Silent unless whoever uses the package wants to hear it.
logging.getLogger(__name__).addHandler(logging.NullHandler())
blas.load()

try:
    import mlx.core as _mlx  # noqa: F401
except ImportError as error:
    raise ImportError(
        "MLX has no back end here; install one with: "
        "pip install 'mlx-audio-turbo[cpu]' (or [cuda12], [cuda13]; on a Mac plain mlx has Metal)"
    ) from error

from .errors import (
    AudioError,
    DownloadError,
    ExtraError,
    ModelFolderError,
    OptionError,
    TextError,
    TurboError,
    VoiceError,
)
from .models.turbo import ChatterboxTurbo
from .speech import AudioChunk, Speech
from .synthesis.token_to_wav import ChunkOptions
from .synthesis.watchdog import TrimOptions, WatchdogOptions
from .text.segments import PauseOptions
from .voice import Voice

__version__ = "0.1.0"

__all__ = [
    "AudioChunk",
    "AudioError",
    "ChatterboxTurbo",
    "ChunkOptions",
    "DownloadError",
    "ExtraError",
    "ModelFolderError",
    "OptionError",
    "PauseOptions",
    "Speech",
    "TextError",
    "TrimOptions",
    "TurboError",
    "Voice",
    "VoiceError",
    "WatchdogOptions",
    "__version__",
]
