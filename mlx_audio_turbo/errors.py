"""What a user can cause, a class per kind; each message is one line: the fact, then the remedy."""

from __future__ import annotations


class TurboError(Exception):
    """Base of all errors that this package raises on purpose."""


class TextError(TurboError):
    """The text cannot be spoken."""


class AudioError(TurboError):
    """A reference clip cannot be used, or audio cannot be written."""


class VoiceError(TurboError):
    """A saved voice cannot be used."""


class ModelFolderError(TurboError):
    """A model folder or checkpoint is absent, damaged or of another kind."""


class NotFiniteError(TurboError):
    """A network gave a NaN or an infinite value.

    Args:
        stage: the network.
    """

    def __init__(self, stage: str):
        super().__init__(
            f"{stage} gave a value that is not finite: the model folder is damaged, or its weights "
            "exceed the range of half precision; convert the model again, or load it with "
            "dtype=mx.float32"
        )


class DownloadError(TurboError):
    """A file could not be had from the Hub."""


class OptionError(TurboError, ValueError):
    """An option is outside of its range."""


class ProcessError(TurboError):
    """A model was loaded in another process than the one that calls it."""


class ExtraError(TurboError):
    """An optional library is not installed, or does not work here."""
