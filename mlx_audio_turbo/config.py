"""Every size and constant of the system: one frozen dataclass per network, each number once.

``config.json`` of a model folder holds the same fields under ``"architecture"``; unknown or missing
keys are errors, so that a folder can never be read with a default that it was not made with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import ModelFolderError, OptionError

SAMPLE_RATE = 24_000
"""Samples per second of everything that S3Gen and the vocoder see and make."""
ENCODER_SAMPLE_RATE = 16_000
"""Samples per second of what the S3 tokenizer and the two speaker networks hear."""
TOKENS_PER_SECOND = 25
SAMPLES_PER_TOKEN = SAMPLE_RATE // TOKENS_PER_SECOND
FRAMES_PER_TOKEN = 2
SAMPLES_PER_FRAME = SAMPLES_PER_TOKEN // FRAMES_PER_TOKEN

SPEECH_CODES = 6561
"""Ids below this are speech; at and above stand the special tokens of T3."""
START_SPEECH = 6561
STOP_SPEECH = 6562
SILENCE = 4299
"""The token of silence; three of them close every utterance."""
CLOSING_SILENCE = 3

MIN_REFERENCE_SECONDS = 5
S3GEN_PROMPT_SECONDS = 10
T3_PROMPT_SECONDS = 15
REFERENCE_LOUDNESS = -27.0
"""LUFS that a reference clip is brought to."""
MAX_TEXT_TOKENS = 1024


@dataclass(frozen=True)
class T3Config:
    """GPT-2 over speaker, prompt, text and speech."""

    width: int
    layers: int
    heads: int
    positions: int
    text_vocabulary: int
    speech_vocabulary: int
    speaker_embedding: int
    prompt_tokens: int

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class S3TokenizerConfig:
    """Log-mel to 25 Hz codes; the codebook has 3 ** ``codebook_dims`` entries."""

    mels: int
    width: int
    heads: int
    layers: int
    memory_kernel: int
    codebook_dims: int

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class VoiceEncoderConfig:
    """LSTM speaker encoder for T3."""

    mels: int
    hidden: int
    layers: int
    embedding: int


@dataclass(frozen=True)
class CAMPlusConfig:
    """CAM++ speaker encoder for S3Gen."""

    mels: int
    embedding: int
    head_channels: int
    head_blocks: tuple[int, ...]
    initial_channels: int
    growth: int
    bottleneck: int
    block_layers: tuple[int, ...]
    block_kernels: tuple[int, ...]
    block_dilations: tuple[int, ...]
    segment: int


@dataclass(frozen=True)
class EncoderConfig:
    """UpsampleConformerEncoder: tokens to mu."""

    width: int
    heads: int
    feed_forward: int
    blocks: int
    up_blocks: int
    lookahead: int

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True)
class EstimatorConfig:
    """Causal U-Net that estimates the mean velocity."""

    channels: int
    heads: int
    head_dim: int
    blocks: int
    mid_blocks: int
    steps: int

    @property
    def time_embedding(self) -> int:
        return 4 * self.channels

    @property
    def feed_forward(self) -> int:
        return 4 * self.channels


@dataclass(frozen=True)
class S3GenConfig:
    """Speech tokens and a voice to mel."""

    vocabulary: int
    mels: int
    speaker_embedding: int
    encoder: EncoderConfig
    estimator: EstimatorConfig


@dataclass(frozen=True)
class HiFTConfig:
    """Mel to samples."""

    mels: int
    channels: int
    upsample_rates: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    resblock_kernels: tuple[int, ...]
    resblock_dilations: tuple[tuple[int, ...], ...]
    source_kernels: tuple[int, ...]
    source_dilations: tuple[tuple[int, ...], ...]
    harmonics: int
    fft: int
    hop: int
    f0_channels: int
    f0_layers: int

    @property
    def samples_per_frame(self) -> int:
        samples = self.hop
        for rate in self.upsample_rates:
            samples *= rate
        return samples


@dataclass(frozen=True)
class ModelConfig:
    """The whole system."""

    t3: T3Config
    s3_tokenizer: S3TokenizerConfig
    voice_encoder: VoiceEncoderConfig
    campplus: CAMPlusConfig
    s3gen: S3GenConfig
    hift: HiFTConfig


@dataclass(frozen=True)
class Quantization:
    """How the Linear layers below ``quantized_components`` are stored: MLX's affine groups.

    Each run of ``group_size`` weights of a row shares a scale and a bias; ``bits`` per weight.
    """

    bits: int
    group_size: int
    quantized_components: tuple[str, ...] = ("t3.tfmr.h",)

    def __post_init__(self) -> None:
        for what, value, known in (
            ("bits", self.bits, QUANTIZATION_BITS),
            ("group_size", self.group_size, QUANTIZATION_GROUPS),
        ):
            if value not in known:
                raise OptionError(f"{what} is {value}; choose one of {', '.join(map(str, known))}")

    def covers(self, name: str) -> bool:
        """Whether a layer or tensor lies in a part that is quantised."""
        return any(name.startswith(f"{part}.") for part in self.quantized_components)


QUANTIZATION_BITS = (4, 6, 8)
QUANTIZATION_GROUPS = (32, 64, 128)

_Config = TypeVar("_Config")


def from_dict(kind: type[_Config], values: Mapping[str, Any], *, where: str = "config") -> _Config:
    """Build a configuration dataclass from parsed JSON.

    Raises:
        ModelFolderError: a key is unknown, missing, or of the wrong type.
    """
    import typing

    hints = typing.get_type_hints(kind)
    if not isinstance(values, Mapping):
        raise ModelFolderError(f"{where} is not an object in config.json; convert the model again")
    unknown = sorted(set(values) - set(hints))
    missing = sorted(set(hints) - set(values))
    if unknown or missing:
        parts = [f"unknown {', '.join(unknown)}"] if unknown else []
        parts += [f"missing {', '.join(missing)}"] if missing else []
        raise ModelFolderError(
            f"{where} in config.json: {'; '.join(parts)}; convert the model again"
        )
    fields = {name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    return kind(**fields)


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where=where)  # type: ignore[arg-type]
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ModelFolderError(f"{where} in config.json is {value!r}, not a positive integer")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise ModelFolderError(f"{where} in config.json is {value!r}, not a text")
        return value
    if not isinstance(value, (list, tuple)) or not value:
        raise ModelFolderError(f"{where} in config.json is {value!r}, not a list")
    (inner, _) = hint.__args__
    return tuple(_value(inner, item, f"{where}[{i}]") for i, item in enumerate(value))


def to_dict(config: Any) -> dict[str, Any]:
    """The inverse of :func:`from_dict`, ready for JSON."""
    return dataclasses.asdict(config)


TURBO = ModelConfig(
    t3=T3Config(
        width=1024,
        layers=24,
        heads=16,
        positions=8196,
        text_vocabulary=50_276,
        speech_vocabulary=6563,
        speaker_embedding=256,
        prompt_tokens=375,
    ),
    s3_tokenizer=S3TokenizerConfig(
        mels=128, width=1280, heads=20, layers=6, memory_kernel=31, codebook_dims=8
    ),
    voice_encoder=VoiceEncoderConfig(mels=40, hidden=256, layers=3, embedding=256),
    campplus=CAMPlusConfig(
        mels=80,
        embedding=192,
        head_channels=32,
        head_blocks=(2, 2),
        initial_channels=128,
        growth=32,
        bottleneck=4,
        block_layers=(12, 24, 16),
        block_kernels=(3, 3, 3),
        block_dilations=(1, 2, 2),
        segment=100,
    ),
    s3gen=S3GenConfig(
        vocabulary=SPEECH_CODES,
        mels=80,
        speaker_embedding=192,
        encoder=EncoderConfig(
            width=512, heads=8, feed_forward=2048, blocks=6, up_blocks=4, lookahead=3
        ),
        estimator=EstimatorConfig(
            channels=256, heads=8, head_dim=64, blocks=4, mid_blocks=12, steps=2
        ),
    ),
    hift=HiFTConfig(
        mels=80,
        channels=512,
        upsample_rates=(8, 5, 3),
        upsample_kernels=(16, 11, 7),
        resblock_kernels=(3, 7, 11),
        resblock_dilations=((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        source_kernels=(7, 7, 11),
        source_dilations=((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        harmonics=8,
        fft=16,
        hop=4,
        f0_channels=512,
        f0_layers=5,
    ),
)

NANO = dataclasses.replace(TURBO, t3=dataclasses.replace(TURBO.t3, width=768, layers=12, heads=12))

TINY = ModelConfig(
    t3=T3Config(
        width=64,
        layers=3,
        heads=4,
        positions=2560,
        text_vocabulary=276,
        speech_vocabulary=6563,
        speaker_embedding=256,
        prompt_tokens=375,
    ),
    s3_tokenizer=S3TokenizerConfig(
        mels=128, width=128, heads=2, layers=2, memory_kernel=31, codebook_dims=8
    ),
    voice_encoder=VoiceEncoderConfig(mels=40, hidden=32, layers=3, embedding=256),
    campplus=CAMPlusConfig(
        mels=80,
        embedding=192,
        head_channels=32,
        head_blocks=(2, 2),
        initial_channels=16,
        growth=4,
        bottleneck=2,
        block_layers=(12, 24, 16),
        block_kernels=(3, 3, 3),
        block_dilations=(1, 2, 2),
        segment=100,
    ),
    s3gen=S3GenConfig(
        vocabulary=SPEECH_CODES,
        mels=80,
        speaker_embedding=192,
        encoder=EncoderConfig(
            width=48, heads=2, feed_forward=96, blocks=2, up_blocks=1, lookahead=3
        ),
        estimator=EstimatorConfig(
            channels=32, heads=2, head_dim=16, blocks=1, mid_blocks=2, steps=2
        ),
    ),
    hift=dataclasses.replace(TURBO.hift, channels=64, f0_channels=64),
)

PRESETS: Mapping[str, ModelConfig] = {"turbo": TURBO, "nano": NANO, "tiny": TINY}
