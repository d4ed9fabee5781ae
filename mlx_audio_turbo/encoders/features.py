"""The input features of the four networks that encode a clip, each a function of the samples.

They differ in padding, window, mel scale, power or magnitude, and logarithm, so that each is
written out. Input is mono (N,); output is float32 (T, M), computed in float64.

Dimensions: N samples, T frames, M mel bands.
"""

from __future__ import annotations

import numpy as np

from ..audio.mel import htk_filters, slaney_filters
from ..audio.stft import frame, hann, power_spectrum, reflect_pad
from ..config import ENCODER_SAMPLE_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME

_WINDOW = 400
_HOP = 160
"""25 ms and 10 ms, common to the three networks whose input is at 16 kHz."""

_TRIM_FRAME = 2048
_TRIM_HOP = 512
_TRIM_DECIBELS = 20.0


def prompt_mel(samples: np.ndarray, *, mels: int = 80) -> np.ndarray:
    """The log-mel that S3Gen continues, (T, M) at 50 Hz, from 24 kHz ``samples``.

    T = N // 480: one frame for each 480 samples; the ends are padded by reflection. Natural
    logarithm of magnitudes, not of power. (HiFi-GAN; reference module ``s3gen.utils.mel``.)
    """
    fft = 4 * SAMPLES_PER_FRAME
    padded = reflect_pad(samples, (fft - SAMPLES_PER_FRAME) // 2)
    power = power_spectrum(frame(padded, fft, SAMPLES_PER_FRAME), hann(fft))
    magnitude = np.sqrt(power + 1e-9)
    mel = magnitude @ slaney_filters(SAMPLE_RATE, fft, mels, high=8000.0).T
    return np.log(np.maximum(mel, 1e-5)).astype(np.float32)


def s3_log_mel(samples: np.ndarray, *, mels: int = 128) -> np.ndarray:
    """Whisper's log-mel for the S3 tokenizer, (T, M) at 100 Hz, from 16 kHz ``samples``.

    T = N // 160: centred frames without the last. The floor lies 8 decades under the
    loudest value of the whole clip. (Radford et al., 2022; reference module ``s3tokenizer``.)
    """
    padded = reflect_pad(samples, _WINDOW // 2)
    power = power_spectrum(frame(padded, _WINDOW, _HOP)[:-1], hann(_WINDOW))
    filters = slaney_filters(ENCODER_SAMPLE_RATE, _WINDOW, mels, high=ENCODER_SAMPLE_RATE / 2)
    mel = np.log10(np.maximum(power @ filters.T, 1e-10))
    mel = np.maximum(mel, mel.max() - 8.0)
    return ((mel + 4.0) / 4.0).astype(np.float32)


def kaldi_fbank(samples: np.ndarray, *, mels: int = 80) -> np.ndarray:
    """Kaldi's log filter bank less its mean over time, (T, M) at 100 Hz, for CAM++.

    From 16 kHz ``samples`` in -1 to 1, as they are: not scaled to 16-bit integers. T = (N - 400) //
    160 + 1: only whole frames. No dither. (Kaldi's ``compute-fbank-feats``; reference modules
    ``s3gen.xvector`` and ``torchaudio.compliance.kaldi``.)
    """
    frames = frame(samples, _WINDOW, _HOP).astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = frames - 0.97 * previous
    povey = hann(_WINDOW, periodic=False) ** 0.85
    power = power_spectrum(frames, povey, fft=512)
    mel = power @ htk_filters(ENCODER_SAMPLE_RATE, 512, mels, low=20.0).T
    mel = np.log(np.maximum(mel, np.finfo(np.float32).eps))
    return (mel - mel.mean(axis=0)).astype(np.float32)


def voice_mel(samples: np.ndarray, *, mels: int = 40) -> np.ndarray:
    """Mel power for the VoiceEncoder, (T, M) at 100 Hz, from 16 kHz ``samples``; no logarithm.

    Silence at both ends is removed first; the N' samples that remain give T = N' // 160 + 1 centred
    frames.
    (Wan et al., 2018; reference module ``voice_encoder.melspec``.)
    """
    padded = reflect_pad(trim_silence(samples), _WINDOW // 2)
    power = power_spectrum(frame(padded, _WINDOW, _HOP), hann(_WINDOW))
    filters = slaney_filters(ENCODER_SAMPLE_RATE, _WINDOW, mels, high=ENCODER_SAMPLE_RATE / 2)
    return (power @ filters.T).astype(np.float32)


def trim_silence(samples: np.ndarray) -> np.ndarray:
    """``samples`` from the first to the last frame within 20 dB of the loudest one.

    Frames of 2048 samples every 512, centred, with zeros beyond the ends, as librosa.effects.trim.
    """
    padded = np.pad(samples.astype(np.float64), _TRIM_FRAME // 2)
    power = np.mean(frame(padded, _TRIM_FRAME, _TRIM_HOP) ** 2, axis=1)
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    loud = np.flatnonzero(decibels > decibels.max() - _TRIM_DECIBELS)
    return samples[loud[0] * _TRIM_HOP : (loud[-1] + 1) * _TRIM_HOP]
