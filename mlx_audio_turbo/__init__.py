"""Chatterbox Turbo on MLX: text and a reference clip in, 24 kHz speech out."""

from . import blas

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
from .pipeline import ChatterboxTurbo
from .speech import Speech
from .voice import Voice

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "ChatterboxTurbo",
    "DownloadError",
    "ExtraError",
    "ModelFolderError",
    "OptionError",
    "Speech",
    "TextError",
    "TurboError",
    "Voice",
    "VoiceError",
    "__version__",
]
