"""What fewer bits change in T3: the same tokens through each folder, against the first.

The tokens are sampled from the first folder's model. Every model then gets them (teacher forcing),
and its logits are compared at each position.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.loading.folder import LoadedModel, load
from mlx_audio_turbo.t3.decoder import Decoder, Request
from mlx_audio_turbo.t3.interface import Condition, prefill_prefix
from mlx_audio_turbo.voice import Voice

from . import card
from .synthetic import voice as made_up

TEXTS = (
    "Oh, that's hilarious! [chuckle] Um anyway, we do have a new model in store.",
    "The quick brown fox jumps over the lazy dog, and nobody asked it why.",
    "On the third of May, at half past seven, she left the house without a word.",
    "[sigh] I know what you are going to say, and I would rather not hear it again.",
)
TOKENS = 128
"""Speech tokens for each text."""


@dataclass(frozen=True)
class Row:
    """A folder against the first.

    bytes: of its weights, and of those without the S3 tokenizer.
    agreement: share of positions where the likeliest token is the same.
    divergence: mean of KL(first ‖ this) in nats.
    drop: mean of log p of the spoken token, first minus this, in nats.
    places: number of tokens of these means.
    """

    name: str
    precision: str
    bytes: int
    bytes_without_tokenizer: int
    agreement: float
    divergence: float
    drop: float
    places: int
    trained: bool


def compare(
    folders: Sequence[Path], *, voice: Voice | None = None, seed: int = 0, tokens: int = TOKENS
) -> Iterator[Row]:
    """Yield a row for each folder, the first against itself.

    Args:
        voice: who speaks; by default a voice of random numbers.
        tokens: how many for each text.

    Raises:
        OptionError: a folder of another model than the first.
        ModelFolderError: a folder is absent or damaged.
    """
    forced: list[np.ndarray] = []
    first: list[np.ndarray] = []
    family = ""
    for folder in folders:
        loaded = load(folder)
        if not forced:
            family = loaded.family
            voice = voice or made_up.voice(loaded.config, family=family)
            keys = mx.random.split(mx.random.key(seed), len(TEXTS))
            forced = [
                _draw(loaded, text, voice, key, tokens)
                for text, key in zip(TEXTS, keys, strict=True)
            ]
        assert voice is not None
        if loaded.family != family:
            raise OptionError(f"{folder} is of {loaded.family!r}, not {family!r}; leave it out")
        found = [
            _log_probabilities(loaded, text, voice, spoken)
            for text, spoken in zip(TEXTS, forced, strict=True)
        ]
        first = first or found
        row = _row(folder, loaded, forced, first, found)
        del loaded  # before the next is read
        yield row


def _draw(loaded: LoadedModel, text: str, voice: Voice, key: mx.array, tokens: int) -> np.ndarray:
    t3 = loaded.networks.t3
    decoder = Decoder(t3, stop=False)
    decoder.add(
        Request(
            id=0,
            text_ids=mx.array(loaded.tokenizer.encode(loaded.tokenizer.normalize(text))),
            prefix=prefill_prefix(t3, _condition(voice)),
            key=key,
            max_tokens=tokens,
        )
    )
    sampled: list[int] = []
    while len(decoder):
        sampled += [token for _, token in decoder.step() if token is not None]
    return np.array(sampled, np.int32)


def _condition(voice: Voice) -> Condition:
    return Condition(
        speaker=mx.array(voice.speaker_embedding)[None],
        prompt_tokens=mx.array(voice.t3_prompt_tokens)[None],
    )


def _log_probabilities(
    loaded: LoadedModel, text: str, voice: Voice, spoken: np.ndarray
) -> np.ndarray:
    """(T, V) of each token of ``spoken`` (T,), given those before it."""
    t3 = loaded.networks.t3
    ids = mx.array(loaded.tokenizer.encode(loaded.tokenizer.normalize(text)))
    before = mx.array(spoken[:-1])[None]
    positions = mx.arange(1, len(spoken))
    embeddings = [
        t3.prefix(_condition(voice)),
        t3.embed_input(ids, 1),
        t3.embed_speech(before, positions),
    ]
    hidden = t3(mx.concatenate(embeddings, axis=1))
    logits = np.array(t3.logits(hidden[0, -len(spoken) :])).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _row(
    folder: Path,
    loaded: LoadedModel,
    forced: Sequence[np.ndarray],
    first: Sequence[np.ndarray],
    found: Sequence[np.ndarray],
) -> Row:
    spoken = np.concatenate(forced)
    p, q = np.concatenate(first), np.concatenate(found)
    here = np.arange(len(spoken))
    whole, part = card.weight_bytes(folder)
    return Row(
        name=folder.resolve().name,
        precision=card.precision(_config(folder)),
        bytes=whole,
        bytes_without_tokenizer=part,
        agreement=float(np.mean(p.argmax(axis=-1) == q.argmax(axis=-1))),
        divergence=float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1))),
        drop=float(np.mean(p[here, spoken] - q[here, spoken])),
        places=len(spoken),
        trained=loaded.trained,
    )


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text("utf-8"))


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, with a line that says what the figures are."""
    lines = [
        "| weights of T3's blocks | MB | without S3 tokenizer | same likeliest token | "
        "KL, nats | mean log-probability drop, nats |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.precision} | {row.bytes / 1e6:,.1f} | {row.bytes_without_tokenizer / 1e6:,.1f} | "
        f"{row.agreement:.2%} | {row.divergence:.2e} | {row.drop:+.2e} |"
        for row in rows
    ]
    lines += [
        "",
        f"Over {rows[0].places} speech tokens of {len(TEXTS)} sentences, drawn from the "
        f"{rows[0].precision} model and given to each (teacher forcing).",
    ]
    return "\n".join(lines)
