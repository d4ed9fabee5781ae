"""The published models: their repositories, files, sizes and sums."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx_audio_turbo.presets as presets
from mlx_audio_turbo.config import ModelConfig
from mlx_audio_turbo.errors import ModelFolderError

from .builtin_voice import SOURCE as BUILTIN_VOICE_FILE
from .tokenizer import CANGJIE_FILE, LEGACY_FILES, MULTILINGUAL_FILE, TOKENIZER_FILE

TURBO_S3GEN = "s3gen_meanflow.safetensors"
ORIGINAL_S3GEN = "s3gen.safetensors"
VOICE_ENCODER_FILE = "ve.safetensors"


@dataclass(frozen=True)
class File:
    """A published file; None where not known.

    blob: the SHA-1 of its git blob, known of small files.
    """

    name: str
    size: int | None = None
    sha256: str | None = None
    blob: str | None = None


@dataclass(frozen=True)
class PublishedModel:
    """A published model.

    model_type: of its folder's ``config.json``.
    family: models of one family share the networks of a voice, so a voice serves them all.
    tokenizer: the files of its tokenizer.
    revision: the commit to take, or None for the newest.
    """

    variant: str
    model_type: str
    family: str
    config: ModelConfig
    t3: File
    s3gen: File
    tokenizer: tuple[File, ...]
    voice: File
    voice_encoder: File
    revision: str | None = None

    @property
    def repository(self) -> str:
        """Its name on the Hub."""
        return presets.PUBLISHED[self.variant]

    @property
    def files(self) -> tuple[File, ...]:
        """What conversion needs; the built-in voice is apart."""
        return (self.t3, self.s3gen, self.voice_encoder, *self.tokenizer)


_VOICE_ENCODER = File(
    VOICE_ENCODER_FILE,
    5_695_784,
    "f0921cab452fa278bc25cd23ffd59d36f816d7dc5181dd1bef9751a7fb61f63c",
)


def _turbo(variant: str, config: ModelConfig, t3: File) -> PublishedModel:
    # Byte for byte the same files in both repositories, T3 aside.
    return PublishedModel(
        variant,
        presets.TURBO_TYPE,
        family="chatterbox_turbo",
        config=config,
        t3=t3,
        s3gen=File(
            TURBO_S3GEN,
            1_064_875_036,
            "d65cb687a2ed581ee6cc297e919ffefa63386944f42364ae13b78a594945514f",
        ),
        tokenizer=tuple(map(File, LEGACY_FILES)),
        voice=File(
            BUILTIN_VOICE_FILE,
            169_454,
            "b1852099306fd6a7814eb9d0bd10186caba7249596cc23868f78a0eefbfa5033",
        ),
        voice_encoder=_VOICE_ENCODER,
    )


def _original(
    variant: str, model_type: str, config: ModelConfig, t3: File, *tokenizer: File
) -> PublishedModel:
    # The three models lie in one repository. The reference pairs version 3 of the multilingual T3
    # with the older S3Gen, as here; s3gen_v3.safetensors has another vocoder.
    return PublishedModel(
        variant,
        model_type,
        family="chatterbox",
        config=config,
        t3=t3,
        s3gen=File(
            ORIGINAL_S3GEN,
            1_056_484_620,
            "2b78103c654207393955e4900aac14a12de8ef25f4b09424f1ef91941f161d4e",
        ),
        tokenizer=tokenizer,
        voice=File(
            BUILTIN_VOICE_FILE,
            107_374,
            "6552d70568833628ba019c6b03459e77fe71ca197d5c560cef9411bee9d87f4e",
        ),
        voice_encoder=_VOICE_ENCODER,
        revision="5bb1f6ee58e50c3b8d408bc82a6d3740c2db6e18",
    )


_MULTILINGUAL_TOKENIZER = (
    File(
        MULTILINGUAL_FILE,
        69_989,
        blob="d27fb3f2fd38ca39b7bbfbf83a13b3c617e551df",
    ),
    File(CANGJIE_FILE, 1_920_163, blob="d77891f84ca1db0d6f7058a4ee081d4bb0bfe88e"),
)

MODELS: Mapping[str, PublishedModel] = {
    model.variant: model
    for model in (
        _turbo(
            "turbo",
            presets.TURBO,
            File(
                "t3_turbo_v1.safetensors",
                1_915_480_052,
                "fcf1f8c1d651bb7e3acd69ee5be269b4ac10c02980b7708213d598bc9f7cdf87",
            ),
        ),
        _turbo("nano", presets.NANO, File("t3_nano_v1.safetensors")),
        _original(
            "original",
            presets.ORIGINAL_TYPE,
            presets.ORIGINAL,
            File(
                "t3_cfg.safetensors",
                2_129_653_744,
                "914cb1696f47527fe8852ca8f1fe1fa63cb34f76f9c715e84e067b744dd0da81",
            ),
            File(
                TOKENIZER_FILE,
                25_470,
                "d71e3a44eabb1784df9a68e9f95b251ecbf1a7af6a9f50835856b2ca9d8c14a5",
            ),
        ),
        _original(
            "multilingual",
            presets.MULTILINGUAL_TYPE,
            presets.MULTILINGUAL,
            File(
                "t3_mtl23ls_v2.safetensors",
                2_143_989_752,
                "b1237586127ce98e7800a68e49938eb5092846862aabcb6e17b2fda7889a6c75",
            ),
            *_MULTILINGUAL_TOKENIZER,
        ),
        _original(
            "multilingual-v3",
            presets.MULTILINGUAL_TYPE,
            presets.MULTILINGUAL_V3,
            File(
                "t3_mtl23ls_v3.safetensors",
                2_143_989_928,
                "5abca8321ede76f8e61f1cc0d19aea6c946b28871017ce8726f8a69203f05953",
            ),
            *_MULTILINGUAL_TOKENIZER,
        ),
    )
}
"""By variant; where several have one repository, the first is meant by the repository's name."""


def find(name: str) -> PublishedModel | None:
    """The model of a variant's name or of a repository."""
    if name in MODELS:
        return MODELS[name]
    return next((model for model in MODELS.values() if model.repository == name), None)


def check_files(
    folder: Path,
    model: PublishedModel,
    *,
    voice: bool = False,
    remedy: Callable[[str], str],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compare a download with the sizes and sums that are known.

    Args:
        voice: the built-in voice as well.
        remedy: gives, for a file's name, how to get it again.
        progress: called with the bytes read so far and in all.

    Raises:
        ModelFolderError: a file is missing or differs.
    """
    files = (*model.files, *([model.voice] if voice else []))
    known = [file for file in files if file.sha256 or file.blob]
    total, done = sum(file.size or 0 for file in known), 0

    def count(block: int) -> None:
        nonlocal done
        done += block
        if progress:
            progress(done, total)

    for file in known:
        check_file(folder / file.name, file, remedy=remedy(file.name), progress=count)


def check_file(
    path: Path, file: File, *, remedy: str, progress: Callable[[int], None] | None = None
) -> None:
    """Compare one file with its size and sum, where they are known.

    Args:
        progress: called with the bytes of each block.

    Raises:
        ModelFolderError: it is missing or differs.
    """
    try:
        size = path.stat().st_size
    except OSError:
        raise ModelFolderError(f"{path} is missing; {remedy}") from None
    if file.size is not None and size != file.size:
        raise ModelFolderError(f"{path} has {size} bytes, not {file.size}; {remedy}")
    # The second is how git names the content of a file.
    blob = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    sums = (
        (file.sha256, hashlib.sha256(), f"{path} is not the published file (SHA-256 differs)"),
        (file.blob, blob, f"{path} is not the published file (git blob differs)"),
    )
    wanted = [each for each in sums if each[0]]
    if not wanted:
        return
    with open(path, "rb") as stream:
        while block := stream.read(1 << 24):
            for _, digest, _ in wanted:
                digest.update(block)
            if progress:
                progress(len(block))
    for known, digest, fault in wanted:
        if digest.hexdigest() != known:
            raise ModelFolderError(f"{fault}; {remedy}")
