"""The reference's mel to samples, with the start phases and the noise handed in."""

from __future__ import annotations

from unittest import mock

import librosa
import numpy as np
import torch
from chatterbox.models.s3gen import hifigan, s3gen
from chatterbox.models.s3gen.f0_predictor import ConvRNNF0Predictor
from chatterbox.models.s3gen.utils.mel import mel_spectrogram

from ..inputs_hift import random_numbers
from .context import Context

PREFIX = "mel2wav."


def build(context: Context) -> hifigan.HiFTGenerator:
    """The reference's module in the checkpoint's sizes, with its weights."""
    sizes = context.architecture["hift"]
    module = hifigan.HiFTGenerator(
        in_channels=sizes["mels"],
        base_channels=sizes["channels"],
        nb_harmonics=sizes["harmonics"],
        sampling_rate=24_000,
        upsample_rates=sizes["upsample_rates"],
        upsample_kernel_sizes=sizes["upsample_kernels"],
        istft_params={"n_fft": sizes["fft"], "hop_len": sizes["hop"]},
        resblock_kernel_sizes=sizes["resblock_kernels"],
        resblock_dilation_sizes=sizes["resblock_dilations"],
        source_resblock_kernel_sizes=sizes["source_kernels"],
        source_resblock_dilation_sizes=sizes["source_dilations"],
        f0_predictor=ConvRNNF0Predictor(
            in_channels=sizes["mels"], cond_channels=sizes["f0_channels"]
        ),
    )
    weights = {
        name[len(PREFIX) :]: value
        for name, value in context.weights(context.s3gen_file).items()
        if name.startswith(PREFIX)
    }
    module.load_state_dict(weights, strict=True)
    return module.eval()


def real_mel(context: Context, frames: int) -> torch.Tensor:
    """A clip's mel (1, mels, frames), from a part where someone speaks, repeated if too short."""
    samples, _ = librosa.load(context.clips[0], sr=24_000)
    mel = mel_spectrogram(torch.from_numpy(samples))
    mel = mel[..., 50:]
    return mel.repeat(1, 1, -(-frames // mel.shape[-1]))[..., :frames]


def inference(
    module: hifigan.HiFTGenerator, mel: torch.Tensor, phases: np.ndarray, noise: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples (1, N) and source (1, 1, N) of ``mel`` (1, mels, frames)."""

    def randn_like(x: torch.Tensor) -> torch.Tensor:
        # The second random array is for a noise branch that nothing reads.
        wanted = torch.from_numpy(noise).transpose(1, 2)
        return wanted if x.shape == wanted.shape else torch.zeros_like(x)

    uniform = mock.Mock()
    uniform.return_value.sample.return_value = torch.from_numpy(phases)[..., None]
    with (
        mock.patch.object(hifigan, "Uniform", uniform),
        mock.patch.object(torch, "randn_like", randn_like),
    ):
        return module.inference(mel)


def fade() -> np.ndarray:
    """What the reference multiplies the first samples with; its networks are left out."""

    def no_networks(module: torch.nn.Module, _: bool) -> None:
        torch.nn.Module.__init__(module)

    with (
        mock.patch.object(s3gen.S3Token2Mel, "__init__", no_networks),
        mock.patch.object(s3gen, "HiFTGenerator", lambda **_: torch.nn.Identity()),
    ):
        return s3gen.S3Token2Wav().trim_fade.numpy()


def record(context: Context) -> dict[str, np.ndarray]:
    """mel (1, F, mels), f0 (1, F), source (1, N, 1), audio (1, N), fade (n,)."""
    module = build(context)
    frames = 40 if context.small else 500
    mel = real_mel(context, frames)
    audio, source = inference(module, mel, *random_numbers(context, frames))
    return {
        "mel": mel.transpose(1, 2).numpy(),
        "f0": module.f0_predictor(mel).numpy(),
        "source": source.transpose(1, 2).numpy(),
        "audio": audio.numpy(),
        "fade": fade(),
    }
