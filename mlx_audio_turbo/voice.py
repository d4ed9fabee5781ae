"""A voice as a value: what the networks need to know of a speaker, and its file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from .config import FRAMES_PER_TOKEN, SPEECH_CODES
from .errors import ModelFolderError, VoiceError
from .files.atomic import check_place, replacing
from .files.paths import user_path
from .files.safetensors_reader import Reader

_FORMAT = "mlx_audio_turbo.voice"
_TENSORS = {
    "speaker_embedding": "t3.speaker_emb",
    "t3_prompt_tokens": "t3.cond_prompt_speech_tokens",
    "s3gen_prompt_tokens": "gen.prompt_token",
    "s3gen_prompt_mel": "gen.prompt_feat",
    "x_vector": "gen.embedding",
}
"""Field by field the names that converted folders use in ``conds.safetensors``, batch of one."""
_PROMPT_LENGTH = "gen.prompt_token_len"
REMEDY = "make the voice again"


@dataclass(frozen=True, eq=False)
class Voice:
    """One speaker, immutable; made by ``ChatterboxTurbo.encode_voice`` or :meth:`load`.

    speaker_embedding: (256,) float32, unit length, from the VoiceEncoder; conditions T3.
    t3_prompt_tokens: (at most 375,) int32 speech tokens of the first 15 s; T3's prompt.
    s3gen_prompt_tokens: (P,) int32 speech tokens of the first 10 s, P at most 250.
    s3gen_prompt_mel: (2 P, 80) float32 log-mel of the same; S3Gen's prompt.
    x_vector: (192,) float32, from CAM++; S3Gen's speaker.
    family: which models can speak with it; one voice serves Turbo and Nano alike.
    """

    speaker_embedding: np.ndarray
    t3_prompt_tokens: np.ndarray
    s3gen_prompt_tokens: np.ndarray
    s3gen_prompt_mel: np.ndarray
    x_vector: np.ndarray
    family: str

    def __post_init__(self) -> None:
        for field in _TENSORS:
            given, tokens = np.asarray(getattr(self, field)), field.endswith("tokens")
            # An embedding's row outside of its table would be read from anywhere in memory.
            if tokens and given.size and not _are_tokens(given):
                raise VoiceError(f"{field} of the voice holds no speech tokens; make it again")
            array = np.array(given, dtype=np.int32 if tokens else np.float32)
            if array.ndim != (2 if field == "s3gen_prompt_mel" else 1) or not array.size:
                raise VoiceError(f"{field} of the voice has shape {array.shape}; make it again")
            if not np.all(np.isfinite(array)):
                raise VoiceError(f"{field} of the voice is not finite; make it again")
            array.setflags(write=False)
            object.__setattr__(self, field, array)
        if len(self.s3gen_prompt_mel) != 2 * len(self.s3gen_prompt_tokens):
            raise VoiceError(
                f"the voice has {len(self.s3gen_prompt_mel)} mel frames for "
                f"{len(self.s3gen_prompt_tokens)} tokens, not two each; make it again"
            )

    @property
    def fingerprint(self) -> str:
        """A short hash of all that is in the voice: equal voices, equal fingerprints."""
        digest = hashlib.sha256(self.family.encode())
        for field in _TENSORS:
            digest.update(getattr(self, field).tobytes())
        return digest.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Voice) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def save(self, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> Path:
        """Write a safetensors file, whole or not at all.

        Args:
            metadata: notes to keep in the file; :meth:`read_metadata` gives them back.

        Raises:
            VoiceError: the place cannot be written.
        """
        path = user_path(path)
        tensors = {
            name: np.ascontiguousarray(getattr(self, field)[None])
            for field, name in _TENSORS.items()
        }
        notes = {**(metadata or {}), "format": _FORMAT, "version": "1", "family": self.family}
        # The file holds UTF-8; a clip's name need not be.
        notes = {
            key: value.encode("utf-8", "backslashreplace").decode() for key, value in notes.items()
        }
        try:
            with replacing(path) as sibling:
                sibling.write_bytes(save(tensors, notes))
        except OSError as error:
            raise VoiceError(
                f"cannot write {path} ({error.strerror}); choose another place"
            ) from None
        return path

    @staticmethod
    def check_place(path: str | Path) -> Path:
        """Find out before long work whether :meth:`save` could write there; gives the path.

        Raises:
            VoiceError: it could not.
        """
        path = user_path(path)
        try:
            check_place(path)
        except OSError as error:
            raise VoiceError(
                f"cannot write {path} ({error.strerror}); choose another place"
            ) from None
        return path

    @classmethod
    def load(cls, path: str | Path) -> Voice:
        """Read a voice that :meth:`save` wrote.

        Raises:
            VoiceError: no such file, damaged, or not a voice.
        """
        reader = _voice_file(user_path(path))
        return cls(**_fields(reader, REMEDY), family=reader.metadata.get("family", ""))

    @classmethod
    def load_builtin(cls, path: Path, *, family: str) -> Voice:
        """Read the ``conds.safetensors`` of a model folder: the voice that came with the model.

        The prompt for S3Gen may be padded and its mel one frame too long; both are cut here.

        Args:
            family: of the model; the file does not say it.

        Raises:
            VoiceError: damaged, or not a voice.
        """
        remedy = "convert the model again"
        reader = _reader(path, remedy)
        if absent := sorted(set(_TENSORS.values()) - set(reader.tensors)):
            raise VoiceError(f"{path} lacks {absent[0]}; {remedy}")
        fields = _fields(reader, remedy)
        tokens, mel = fields["s3gen_prompt_tokens"], fields["s3gen_prompt_mel"]
        count = min(len(tokens), len(mel) // FRAMES_PER_TOKEN)
        if _PROMPT_LENGTH in reader.tensors:
            length = reader.read(_PROMPT_LENGTH).reshape(-1)
            if not length.size:
                raise VoiceError(f"{path} is damaged ({_PROMPT_LENGTH} is empty); {remedy}")
            count = max(0, min(count, int(length[0])))
        cut = {
            "s3gen_prompt_tokens": tokens[:count],
            "s3gen_prompt_mel": mel[: FRAMES_PER_TOKEN * count],
        }
        return cls(**(fields | cut), family=family)

    @staticmethod
    def read_metadata(path: str | Path) -> dict[str, str]:
        """The notes in a voice's file, and its ``family``.

        Raises:
            VoiceError: no such file, damaged, or not a voice.
        """
        return _voice_file(user_path(path)).metadata


def _are_tokens(ids: np.ndarray) -> bool:
    return bool(ids.dtype.kind in "iu" and ids.min() >= 0 and ids.max() < SPEECH_CODES)


def _reader(path: Path, remedy: str) -> Reader:
    try:
        return Reader(path, remedy=remedy)
    except ModelFolderError as error:
        raise VoiceError(str(error)) from None


def _voice_file(path: Path) -> Reader:
    """The tensors of a file that :meth:`Voice.save` wrote."""
    if not path.is_file():
        raise VoiceError(f"no voice file at {path}; make one with encode_voice(...).save(...)")
    reader = _reader(path, REMEDY)
    if reader.metadata.get("format") != _FORMAT or set(_TENSORS.values()) - set(reader.tensors):
        raise VoiceError(f"{path} is not a voice file; make one with encode_voice")
    return reader


def _fields(reader: Reader, remedy: str) -> dict[str, np.ndarray]:
    """The arrays of a voice by field, without the axis of the batch."""
    fields = {}
    for field, name in _TENSORS.items():
        if not (shape := reader.tensors[name].shape) or not shape[0]:
            raise VoiceError(f"{reader.path} is damaged ({name} has shape {shape}); {remedy}")
        fields[field] = reader.read(name)[0]
    return fields
