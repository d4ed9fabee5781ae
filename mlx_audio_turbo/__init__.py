"""Chatterbox text to speech on MLX: text and a reference clip in, 24 kHz speech out.

The names below are the public surface. Each is imported when it is first used, so that importing
the package costs nothing.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Silent unless the application sets up logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from .audio.files import write_blocks
    from .errors import (
        AudioError,
        DownloadError,
        ExtraError,
        ModelFolderError,
        OptionError,
        ProcessError,
        TextError,
        TurboError,
        VoiceError,
    )
    from .models.chatterbox import Chatterbox
    from .models.load import load_model
    from .models.multilingual import ChatterboxMultilingual
    from .models.one_line import speak
    from .models.turbo import ChatterboxTurbo
    from .models.voice_conversion import VoiceConverter
    from .options import ChunkOptions, PauseOptions, TrimOptions, WatchdogOptions
    from .plotting import compare
    from .speech import AudioChunk, Speech
    from .synthesis.pace import Pace
    from .synthesis.watchdog import Watchdog
    from .text.segments import Segment, split_text
    from .voice import Voice
    from .voice_library import SavedVoice, VoiceLibrary

_MODULES = {
    "audio.files": ("write_blocks",),
    "errors": (
        "AudioError",
        "DownloadError",
        "ExtraError",
        "ModelFolderError",
        "OptionError",
        "ProcessError",
        "TextError",
        "TurboError",
        "VoiceError",
    ),
    "models.chatterbox": ("Chatterbox",),
    "models.multilingual": ("ChatterboxMultilingual",),
    "models.load": ("load_model",),
    "models.one_line": ("speak",),
    "models.turbo": ("ChatterboxTurbo",),
    "models.voice_conversion": ("VoiceConverter",),
    "options": ("ChunkOptions", "PauseOptions", "TrimOptions", "WatchdogOptions"),
    "plotting": ("compare",),
    "speech": ("AudioChunk", "Speech"),
    "text.segments": ("Segment", "split_text"),
    "voice": ("Voice",),
    "synthesis.pace": ("Pace",),
    "synthesis.watchdog": ("Watchdog",),
    "voice_library": ("SavedVoice", "VoiceLibrary"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AudioChunk",
    "AudioError",
    "Chatterbox",
    "ChatterboxMultilingual",
    "ChatterboxTurbo",
    "ChunkOptions",
    "DownloadError",
    "ExtraError",
    "ModelFolderError",
    "OptionError",
    "Pace",
    "PauseOptions",
    "ProcessError",
    "SavedVoice",
    "Segment",
    "Speech",
    "TextError",
    "TrimOptions",
    "TurboError",
    "Voice",
    "VoiceConverter",
    "VoiceError",
    "VoiceLibrary",
    "Watchdog",
    "WatchdogOptions",
    "__version__",
    "compare",
    "load_model",
    "speak",
    "split_text",
    "write_blocks",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f".{_HOME[name]}", __name__)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "mlx":
            raise
        raise ImportError(
            "MLX has no back end here; install one with: "
            "pip install 'mlx-audio-turbo[cpu]' (or [cuda12], [cuda13]; on a Mac plain mlx)"
        ) from error
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
