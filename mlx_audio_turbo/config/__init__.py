"""The types of a model's configuration, one frozen dataclass per network, and the constants.

``config.json`` of a model folder holds the same fields. Unknown and missing keys are errors, so
that a folder is never read with a default that it was not made with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import ModelFolderError
from .parsing import from_dict, to_dict
from .quantization import QUANTIZATION_BITS as QUANTIZATION_BITS
from .quantization import QUANTIZATION_GROUPS as QUANTIZATION_GROUPS
from .quantization import Quantization as Quantization

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
SCHEDULES = ("uniform", "cosine")
"""Names of the times of the flow's solver."""
SILENCE = 4299
"""The token of silence."""


@dataclass(frozen=True)
class T3Config:
    """GPT-2 over speaker, prompt, text and speech."""

    kind: ClassVar[str] = "turbo"
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
class RopeScalingConfig:
    """Llama 3's scaling of the rotary frequencies.

    Wavelengths above ``original_positions / low_frequency_factor`` are multiplied by ``factor``,
    those below ``original_positions / high_frequency_factor`` are kept, and the others blended.
    """

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_positions: int


@dataclass(frozen=True)
class OriginalT3Config:
    """Llama over speaker, prompt, emotion, text and speech, with learned positions.

    text_positions: rows of the position table of text, the start and stop ids included.
    speech_positions: rows of that of speech, the start token included.
    perceiver_queries: rows of the sequence that the prompt becomes.
    start_text, stop_text: ids that enclose the text.
    """

    kind: ClassVar[str] = "original"
    width: int
    layers: int
    heads: int
    feed_forward: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScalingConfig
    text_vocabulary: int
    text_positions: int
    start_text: int
    stop_text: int
    speech_vocabulary: int
    speech_positions: int
    speaker_embedding: int
    prompt_tokens: int
    perceiver_queries: int
    perceiver_heads: int

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
    """Causal U-Net that estimates the velocity of the flow, and how the flow is solved.

    The last three have defaults, those of folders of version 0.1, which lack them.

    steps: of the solver.
    schedule: the times between them, one of ``SCHEDULES``.
    guidance: rate of classifier-free guidance; None: none.
    mean_flow: whether the estimator is given both times of a step, the mean velocity between
        which it estimates. Otherwise it is given the first.
    """

    channels: int
    heads: int
    head_dim: int
    blocks: int
    mid_blocks: int
    steps: int
    schedule: str = "uniform"
    guidance: float | None = None
    mean_flow: bool = True

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ModelFolderError(
                f"the estimator's schedule in config.json is {self.schedule!r}, not "
                f"{' or '.join(SCHEDULES)}; convert the model again"
            )

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
class ReferenceClipConfig:
    """How a reference clip becomes a voice.

    min_seconds: a clip must be longer.
    loudness: LUFS to which the clip is brought first; None leaves it as it is.
    t3_prompt_seconds: what T3's prompt is made of, from the start of the clip.
    s3gen_prompt_seconds: what S3Gen's prompt and x-vector are made of, likewise.
    """

    min_seconds: float
    loudness: float | None
    t3_prompt_seconds: float
    s3gen_prompt_seconds: float


@dataclass(frozen=True)
class TextConfig:
    """How text becomes ids.

    max_tokens: the most ids of one segment.
    """

    max_tokens: int


@dataclass(frozen=True)
class LanguageTextConfig:
    """How the multilingual model spells text; the defaults are those of upstream's loader.

    Upstream has not settled this for version 3: its loader lower-cases, its demonstration keeps
    the case.

    lowercase: capitals become small letters.
    capitalize: the clean-up begins a text with a capital; without effect where they become small.
    decompose_first: accents are separated from their letters (NFKD) before the step of the
        language, not after it.
    steps: the languages whose step is done. Russian's (stress marks) is left out: its library is
        no package of the index.
    """

    lowercase: bool = True
    capitalize: bool = True
    decompose_first: bool = True
    steps: tuple[str, ...] = ("zh", "ja", "ko", "he")


@dataclass(frozen=True)
class RenderingConfig:
    """How speech tokens become samples.

    closing_silence: silence tokens that follow the tokens of an utterance.
    noise_scale: standard deviation of the noise from which the flow starts.
    """

    closing_silence: int
    noise_scale: float


@dataclass(frozen=True)
class ModelConfig:
    """The whole system: the networks, and the numbers of a model that are no sizes.

    generation: the model's own defaults of run options, by name; see ``options``.
    language_text: of a model that speaks several languages.
    """

    t3: T3Config | OriginalT3Config
    s3_tokenizer: S3TokenizerConfig
    voice_encoder: VoiceEncoderConfig
    campplus: CAMPlusConfig
    s3gen: S3GenConfig
    hift: HiFTConfig
    reference_clip: ReferenceClipConfig
    text: TextConfig
    rendering: RenderingConfig
    generation: Mapping[str, float]
    language_text: LanguageTextConfig | None = None


NETWORKS = ("t3", "s3_tokenizer", "voice_encoder", "campplus", "s3gen", "hift")
"""The fields of :class:`ModelConfig` that stand under ``"architecture"`` in ``config.json``."""
SECTIONS = ("reference_clip", "text", "rendering", "generation", "language_text")
"""The other fields, each a key of ``config.json`` itself."""


def from_json(values: Mapping[str, Any], *, absent: ModelConfig) -> ModelConfig:
    """The configuration in a parsed ``config.json``.

    Args:
        absent: its values stand for sections that the file lacks, as files of version 0.1 do.

    Raises:
        ModelFolderError: a key is unknown, missing, or of the wrong type.
    """
    architecture = values.get("architecture")
    if not isinstance(architecture, Mapping):
        raise ModelFolderError("config.json has no architecture; convert the model again")
    sections = {name: values[name] for name in SECTIONS if name in values}
    known = {name: dataclasses.asdict(absent)[name] for name in SECTIONS}
    return from_dict(ModelConfig, {**architecture, **known, **sections}, where="architecture")


def to_json(config: ModelConfig) -> dict[str, Any]:
    """The inverse of :func:`from_json`: the keys of ``config.json`` that hold ``config``."""
    values = to_dict(config)
    architecture = {name: values[name] for name in NETWORKS}
    architecture["t3"] = {"kind": config.t3.kind, **values["t3"]}
    return {"architecture": architecture, **{name: values[name] for name in SECTIONS}}
