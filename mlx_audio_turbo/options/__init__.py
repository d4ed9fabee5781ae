"""Every option of a run, once: its name, type, default, range and help.

The models take these options as keywords, and the command, its documentation and the server read
the same definitions. To add an option, add a field here: to a ``TypedDict`` for a keyword of a
model's calls, to a dataclass for a field of an options object.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from ..config import SILENCE, TOKENS_PER_SECOND
from ..errors import OptionError
from .definition import Checked, Definition, Option, default_of, definitions, unknown

MAX_TOKENS = 1000
"""The reference's limit for one utterance: 40 s of speech."""
MAX_BATCH = 64
SEGMENT_LIMIT = 300
"""Characters of a segment that the published models speak without garbling."""
MIN_SEGMENT_LIMIT = 40
"""The longest tag must fit into a segment."""
LONGEST_CYCLE = 8
"""Tokens. A longer repetition is a whole phrase, which sampling does not repeat exactly."""

Temperature = Annotated[float, Option("0 takes the likeliest token", 0.8, least=0)]
TopK = Annotated[int, Option("sample from the N likeliest tokens; 0 for all", 1000, least=0)]
TopP = Annotated[
    float, Option("sample from the likeliest tokens of this total share", 0.95, above=0, most=1)
]
MinP = Annotated[
    float, Option("drop tokens below this share of the likeliest", 0.0, least=0, most=1)
]
CfgWeight = Annotated[float, Option("weight of classifier-free guidance; 0 for none", 0.5, least=0)]
Exaggeration = Annotated[float, Option("strength of the emotion; 0.5 is neutral", 0.5, least=0)]
RepetitionPenalty = Annotated[float, Option("against repetition; 1 for none", 1.2, above=0)]
MaxTokens = Annotated[
    int, Option("limit per segment; 25 are one second", MAX_TOKENS, least=1, most=MAX_TOKENS)
]
Retries = Annotated[
    int, Option("how often a runaway segment is sampled again", 2, least=0, most=100)
]
BatchSize = Annotated[int, Option("segments that are decoded together", 4, least=1, most=MAX_BATCH)]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(Checked):
    """How a token is chosen from the logits. A model uses the filters that it has, in its order.

    temperature: divides the logits. 0 takes the likeliest token at every step, without chance
        (the reference treats 0 as 1).
    top_k: how many of the likeliest tokens stay, with all that tie with the last of them; 0 keeps
        every token.
    top_p: the least likely tokens whose probabilities sum to at most ``1 - top_p`` go; 1 keeps
        every token.
    min_p: tokens less likely than this share of the likeliest one go; 0 keeps every token.
    repetition_penalty: the score of a token that was sampled before is divided by this where
        positive and multiplied where negative; 1 changes nothing.
    cfg_weight: how far guidance moves the logits away from those without the text. 0 is without
        guidance, which halves the work of a token.

    Raises:
        OptionError: a value is outside of its range.
    """

    temperature: Temperature = field(default=default_of(Temperature))
    top_k: TopK = field(default=default_of(TopK))
    top_p: TopP = field(default=default_of(TopP))
    min_p: MinP = field(default=default_of(MinP))
    repetition_penalty: RepetitionPenalty = field(default=default_of(RepetitionPenalty))
    cfg_weight: CfgWeight = field(default=default_of(CfgWeight))


@dataclass(frozen=True)
class PauseOptions(Checked):
    """Seconds of silence after a segment, on top of the margin that trimming leaves."""

    word: Annotated[float, Option("seconds after a segment that ends in a word", least=0)] = 0.0
    clause: Annotated[float, Option("seconds after a segment that ends a clause", least=0)] = 0.1
    sentence: Annotated[float, Option("seconds between sentences", least=0)] = 0.2
    paragraph: Annotated[float, Option("seconds between paragraphs", least=0)] = 0.7


@dataclass(frozen=True)
class TrimOptions(Checked):
    """Where the end of an utterance is cut.

    margin: seconds kept past the last speech.
    threshold_db: the least level of speech, relative to the utterance's own level.
    """

    margin: Annotated[float, Option("seconds kept past the last speech", least=0)] = 0.2
    threshold_db: Annotated[float, Option("silence is this many dB below speech", below=0)] = -35.0


@dataclass(frozen=True)
class WatchdogOptions(Checked):
    """When a segment counts as runaway generation; all limits are tokens, 25 a second.

    max_run: repetitions of one token. A drawn-out vowel changes its token several times a second.
    max_silence: silence tokens in a row. Natural pauses reach 26 tokens.
    max_cycle: length of a cycle of 2 to 8 tokens that repeats exactly. Sampled speech does not
        repeat exactly.
    silence: the ids that count as silence.
    """

    max_run: Annotated[int, Option("repetitions of one token", least=1)] = TOKENS_PER_SECOND
    max_silence: Annotated[int, Option("silence tokens in a row", least=1)] = 2 * TOKENS_PER_SECOND
    max_cycle: Annotated[int, Option("tokens of an exact cycle", least=2 * LONGEST_CYCLE)] = (
        2 * TOKENS_PER_SECOND
    )
    silence: Set[int] = frozenset({SILENCE})


@dataclass(frozen=True)
class ChunkOptions:
    """How an utterance is cut for streaming.

    sizes: tokens whose audio the first chunk has, the second and so on; the last size repeats.
        Ten more tokens must be known by then. Each chunk computes the prompt again, so few large
        chunks cost less and many small ones give the first audio earlier.
    window: past tokens that a chunk computes again as context; bounds the cost of a chunk.
    """

    sizes: tuple[int, ...] = (10, 30, 75, 150)
    window: int = 50

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1:
            raise OptionError(f"chunk sizes are {self.sizes}; give at least one, each 1 or more")
        if self.window < 0:
            raise OptionError(f"the chunk window is {self.window} tokens; give 0 or more")


@dataclass(frozen=True)
class SpeakingOptions(Checked):
    """How to speak, the same for all that is spoken together.

    max_tokens: limit per segment. A segment that reaches the model's own limit is split and spoken
        in parts; one that reaches a lower limit, which the caller chose, ends there.
    chunks: cut the audio for streaming; None gives each segment whole.
    trim: cut noise and silence after a segment's speech; None keeps the length of the tokens.
    watchdog: detect runaway generation; None does not.
    retries: how often a runaway segment is sampled again.
    batch_size: how many segments are decoded together.
    exaggeration: strength of the emotion, for models that have it.
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    max_tokens: MaxTokens = MAX_TOKENS
    chunks: ChunkOptions | None = None
    trim: TrimOptions | None = None
    pauses: PauseOptions = field(default_factory=PauseOptions)
    watchdog: WatchdogOptions | None = field(default_factory=WatchdogOptions)
    retries: Retries = field(default=default_of(Retries))
    batch_size: BatchSize = 1
    exaggeration: Exaggeration = field(default=default_of(Exaggeration))


class _RunOptions(TypedDict, total=False):
    """What every model has."""

    seed: Annotated[
        int | None, Option("the same seed gives the same audio", least=0, most=2**64 - 1)
    ]
    temperature: Temperature
    max_tokens: MaxTokens
    segment_limit: Annotated[
        int,
        Option("characters of a segment of a long text", SEGMENT_LIMIT, least=MIN_SEGMENT_LIMIT),
    ]
    pauses: Annotated[PauseOptions | None, Option("silence between segments", PauseOptions())]
    trim: Annotated[TrimOptions | None, Option("cut noise and silence after the speech")]
    watchdog: Annotated[
        WatchdogOptions | None, Option("detect runaway generation", WatchdogOptions())
    ]
    retries: Retries


class _BatchOptions(TypedDict, total=False):
    """What calls have that speak several segments together."""

    batch_size: BatchSize


class _StreamOptions(TypedDict, total=False):
    """What calls have that give audio in chunks."""

    chunks: Annotated[ChunkOptions | None, Option("how the audio is cut", ChunkOptions())]


class TurboOptions(_RunOptions, total=False):
    """The options of Turbo."""

    top_k: TopK
    top_p: TopP
    repetition_penalty: RepetitionPenalty


class TurboBatchOptions(TurboOptions, _BatchOptions, total=False):
    """The options of Turbo's calls that speak several segments together."""


class TurboStreamOptions(TurboOptions, _StreamOptions, total=False):
    """The options of Turbo's streams."""


class ChatterboxOptions(_RunOptions, total=False):
    """The options of the original model."""

    min_p: MinP
    top_p: TopP
    repetition_penalty: RepetitionPenalty
    cfg_weight: CfgWeight
    exaggeration: Exaggeration


class ChatterboxBatchOptions(ChatterboxOptions, _BatchOptions, total=False):
    """The options of the original's calls that speak several segments together."""


class ChatterboxStreamOptions(ChatterboxOptions, _StreamOptions, total=False):
    """The options of the original's streams."""


class _LanguageOptions(TypedDict, total=False):
    language: Annotated[str | None, Option("the language's code, such as fr", None)]


class MultilingualOptions(ChatterboxOptions, _LanguageOptions, total=False):
    """The options of the multilingual model."""


class MultilingualBatchOptions(MultilingualOptions, _BatchOptions, total=False):
    """The options of the multilingual model's calls that speak several segments together."""


class MultilingualStreamOptions(MultilingualOptions, _StreamOptions, total=False):
    """The options of the multilingual model's streams."""


RUN_OPTIONS: Mapping[str, type] = {
    "ChatterboxTurbo": TurboBatchOptions,
    "Chatterbox": ChatterboxBatchOptions,
    "ChatterboxMultilingual": MultilingualBatchOptions,
}
"""The options of each model, by the name of its class."""


def resolve(
    owner: type, given: Mapping[str, Any], *, defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """All options of ``owner`` with their values: given, else the model's default, else ours.

    Args:
        defaults: the generation defaults of a model folder.

    Raises:
        OptionError: an unknown name, or a value of the wrong type or outside of its range.
    """
    known = definitions(owner)
    for name in given:
        if name not in known:
            others = {model: definitions(kind) for model, kind in RUN_OPTIONS.items()}
            raise OptionError(unknown(name, known, others))
    values = {name: each.default for name, each in known.items()}
    values |= defaults or {}
    values |= given
    return {name: each.check(values[name]) for name, each in known.items()}


def check_range(name: str, value: int, least: int, most: int) -> int:
    """``value``, which must be a whole number from ``least`` to ``most``.

    Raises:
        OptionError: it is not.
    """
    option = Option("", least=least, most=most)
    return Definition(name, int, False, None, option).check(value)


def check_flag(name: str, value: bool) -> bool:
    """``value``, which must be True or False.

    Raises:
        OptionError: it is not.
    """
    return Definition(name, bool, False, None, Option("")).check(value)


def resolve_seed(seed: int | None) -> int:
    """``seed``, or a random one where it is None."""
    return secrets.randbits(32) if seed is None else seed
