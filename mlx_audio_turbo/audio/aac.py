"""AAC by PyAV (extra ``codecs``), as a plain stream or in an MP4 container."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from ..errors import ExtraError

BIT_RATE = 96_000
CONTAINERS = {"aac": "adts", "m4a": "ipod", "m4b": "ipod"}
"""FFmpeg's muxers by suffix. ADTS can be written to a pipe; MP4 needs a file that can seek."""


def check_installed() -> None:
    """Find out before long work whether PyAV is there.

    Raises:
        ExtraError: it is not.
    """
    _av()


def encode(file: BinaryIO, suffix: str, blocks: Iterable[np.ndarray], sample_rate: int) -> None:
    """Write mono float ``blocks`` (samples,) in -1 to 1 to an open file.

    Raises:
        ExtraError: PyAV is not installed.
    """
    av = _av()
    with av.open(file, "w", format=CONTAINERS[suffix]) as container:
        stream = container.add_stream("aac", rate=sample_rate, layout="mono")
        stream.bit_rate = BIT_RATE
        position = 0
        for block in blocks:
            if not len(block):
                continue
            samples = np.ascontiguousarray(np.clip(block, -1, 1), np.float32)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = sample_rate, position
            frame.time_base = Fraction(1, sample_rate)
            position += len(block)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _av() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise ExtraError(
            "AAC (.aac, .m4a, .m4b) needs PyAV; install it with: "
            "pip install 'mlx-audio-turbo[codecs]'"
        ) from None
