"""Figures of speech: waveform, mel spectrogram, F0 and tokens, for several utterances.

Dimensions: N samples, T frames of 20 ms, M mels, K tokens.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .audio.mel import slaney_filters
from .config import SAMPLES_PER_FRAME, SILENCE, SPEECH_CODES, TOKENS_PER_SECOND
from .errors import AudioError, ExtraError
from .files.atomic import check_place, replacing
from .files.paths import user_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FFT = 1920
_MELS = 80
_TOP_HZ = 8_000
_PITCHES = (60.0, 500.0)
_CLEAR = 0.5
"""Normalised autocorrelation from which a frame counts as voiced."""
_HEIGHTS = (2, 3, 2, 0.8)
_DPI = 110
IMAGES = (".png", ".svg", ".pdf", ".jpg")


class Drawable(Protocol):
    """The parts of a ``Speech`` that are drawn."""

    @property
    def audio(self) -> np.ndarray: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def tokens(self) -> np.ndarray: ...
    @property
    def text(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def duration(self) -> float: ...


def compare(
    *speeches: Drawable, labels: Sequence[str] = (), path: str | Path | None = None
) -> Figure:
    """A column for each speech, on common scales; a notebook displays the figure.

    Args:
        labels: a title for each; by default its text.
        path: where to write an image too (png, svg, pdf or jpg), whole or not at all.

    Raises:
        ExtraError: matplotlib is not installed.
        AudioError: the image cannot be written there.
    """
    if not speeches:
        raise AudioError("there is nothing to draw; give at least one speech")
    path = check_image(path) if path is not None else None
    check_installed()
    figure = _figure(1 + 8 * len(speeches), 7.5)
    axes: Any = figure.subplots(
        4,
        len(speeches),
        sharex="col",
        sharey="row",
        squeeze=False,
        gridspec_kw={"height_ratios": _HEIGHTS},
    )
    for column, speech in enumerate(speeches):
        label = labels[column] if column < len(labels) else _title(speech)
        _column(axes[:, column], speech, label, first=column == 0)
    if path is not None:
        try:
            with replacing(path) as part:
                figure.savefig(part, dpi=_DPI)
        except OSError as error:
            raise AudioError(
                f"{path} cannot be written ({error.strerror}); choose another place"
            ) from None
    return figure


def check_installed() -> None:
    """Check before long work that matplotlib is installed.

    Raises:
        ExtraError: it is not.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        raise ExtraError(
            "plots need matplotlib; install it with: pip install 'mlx-audio-turbo[plot]'"
        ) from None


def check_image(path: str | Path) -> Path:
    """Check before long work that an image can be written at ``path``; returns the path.

    Raises:
        AudioError: another suffix than png, svg, pdf and jpg, or a place where no file of this
            name can be written.
    """
    path = user_path(path)
    if path.suffix.lower() not in IMAGES:
        raise AudioError(f"{path} does not end like an image; use one of {', '.join(IMAGES)}")
    try:
        check_place(path)
    except OSError as error:
        raise AudioError(
            f"{path} cannot be written ({error.strerror}); choose another place"
        ) from None
    return path


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    class SpeechFigure(Figure):
        """A figure that notebooks display; they know pyplot's only."""

        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi=_DPI)
            return file.getvalue()

    return SpeechFigure(figsize=(width, height), layout="constrained")


def _column(axes: Sequence[Axes], speech: Drawable, label: str, *, first: bool) -> None:
    waveform, spectrogram, pitch, tokens = axes
    rate = speech.sample_rate
    frames = _frames(speech.audio)
    end = max(0.1, speech.duration, len(speech.tokens) / TOKENS_PER_SECOND)
    times = np.arange(len(frames)) * SAMPLES_PER_FRAME / rate

    waveform.set_title(label, fontsize=10, parse_math=False)
    low, high = _envelope(speech.audio)
    waveform.fill_between(np.linspace(0, speech.duration, len(low)), low, high, lw=0.3)
    waveform.set_xlim(0, end)
    waveform.set_ylim(-1, 1)

    mel = _log_mel(frames, rate)
    spectrogram.imshow(
        mel.T,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, max(0.1, speech.duration), 0, _MELS),
        vmin=float(mel.max()) - 80,
        vmax=float(mel.max()),
    )
    marks = [0, 500, 1000, 2000, 4000, 8000]
    centres = np.array([_hz_to_band(hz) for hz in marks])
    spectrogram.set_yticks(centres, ["0", "0.5", "1", "2", "4", "8"])

    f0 = _f0(frames, rate)
    pitch.plot(times, f0, ".", ms=3)
    pitch.set_ylim(50, 520)
    pitch.grid(alpha=0.3)

    _timeline(tokens, speech.tokens, end)
    tokens.set_xlabel("seconds")
    if first:
        for axis, name in zip(
            axes, ("waveform", "mel spectrogram\n(kHz)", "F0 (Hz)", "tokens"), strict=True
        ):
            axis.set_ylabel(name)


def _timeline(axes: Axes, tokens: np.ndarray, end: float) -> None:
    """A stripe for each token, 25 a second, coloured by its id; the token of silence is grey.

    Negative ids leave a gap.
    """
    import matplotlib

    axes.set_yticks([])
    axes.set_ylim(0, 1)
    axes.set_xlim(0, end)
    if not len(tokens):
        return
    ids = np.ma.masked_equal(np.asarray(tokens), SILENCE)
    axes.imshow(
        ids[None],
        aspect="auto",
        interpolation="nearest",
        cmap=matplotlib.colormaps["turbo"].with_extremes(bad="0.85", under="white"),
        vmin=0,
        vmax=SPEECH_CODES - 1,
        extent=(0, len(tokens) / TOKENS_PER_SECOND, 0, 1),
    )
    axes.set_xlim(0, end)


def _envelope(audio: np.ndarray, points: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest sample of each of at most ``points`` stretches."""
    if not len(audio):
        return np.zeros(1), np.zeros(1)
    edges = np.linspace(0, len(audio), min(points, len(audio)), endpoint=False).astype(int)
    return np.minimum.reduceat(audio, edges), np.maximum.reduceat(audio, edges)


def _frames(audio: np.ndarray) -> np.ndarray:
    """Overlapping frames (T, 1920), one each 20 ms, each centred on its time."""
    padded = np.pad(audio, (_FFT // 2, _FFT // 2))
    return np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::SAMPLES_PER_FRAME]


def _log_mel(frames: np.ndarray, rate: int) -> np.ndarray:
    """(T, M) in dB."""
    filters = slaney_filters(rate, _FFT, _MELS, high=_TOP_HZ).T
    window = np.hanning(_FFT + 1)[:-1].astype(np.float32)
    # In blocks, because a chapter's frames together would take gigabytes.
    blocks = [
        np.abs(np.fft.rfft(frames[i : i + 1000] * window)) ** 2 @ filters
        for i in range(0, len(frames), 1000)
    ]
    return 10 * np.log10(np.concatenate(blocks) + 1e-10)


def _f0(frames: np.ndarray, rate: int) -> np.ndarray:
    """F0 in Hz of each frame (T,), NaN where it is unvoiced.

    Autocorrelation of the windowed frame over that of the window (Boersma 1993): 1 for a perfectly
    periodic frame. The first peak that comes near the highest wins, against octaves too low.
    """
    window = np.hanning(_FFT + 1)[:-1]
    shortest, longest = round(rate / _PITCHES[1]), round(rate / _PITCHES[0])
    of_window = _autocorrelation(window[None])[0, : longest + 2]
    f0 = np.full(len(frames), np.nan)
    level = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
    loud = level > max(1e-4, 0.02 * float(level.max(initial=0)))
    for start in range(0, len(frames), 1000):
        block = frames[start : start + 1000].astype(np.float64)
        block = (block - block.mean(axis=1, keepdims=True)) * window
        ac = _autocorrelation(block)[:, : longest + 2]
        ac = ac / np.maximum(ac[:, :1], 1e-12) * (of_window[0] / of_window)
        inside = ac[:, shortest : longest + 1]
        peak = (inside >= ac[:, shortest - 1 : longest]) & (inside > ac[:, shortest + 1 :])
        peaks = np.where(peak, inside, 0)
        best = peaks.max(axis=1)
        lag = shortest + np.argmax(peaks >= 0.9 * best[:, None], axis=1)
        voiced = (best > _CLEAR) & loud[start : start + 1000]
        f0[start : start + 1000] = np.where(voiced, rate / lag, np.nan)
    return f0


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    spectrum = np.abs(np.fft.rfft(frames, 2 * _FFT)) ** 2
    return np.fft.irfft(spectrum)


def _hz_to_band(hz: float) -> float:
    """Where a frequency lies among the mel bands."""
    centres = slaney_filters(24_000, _FFT, _MELS, high=_TOP_HZ).argmax(axis=1) * 24_000 / _FFT
    return float(np.interp(hz, centres, np.arange(_MELS) + 0.5))


def _title(speech: Drawable) -> str:
    text = speech.text if len(speech.text) <= 70 else f"{speech.text[:69]}…"
    return f"{text}\n{speech.duration:.2f} s, {len(speech.tokens)} tokens, seed {speech.seed}"
