"""Where a network can be had that a foreign folder lacks: single files of known repositories."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import rules, upstream
from ..mapping import campplus, s3_tokenizer, voice_encoder
from ..rules import Drop, Rule
from ..safetensors_writer import Reader
from ..upstream import File
from . import s3_tokenizer_v2

OFFICIAL = "ResembleAI/chatterbox-turbo"
S3_TOKENIZER = "mlx-community/S3TokenizerV2"


@dataclass(frozen=True)
class Donor:
    """A file that holds one network.

    prefix: of the network's names in that file, which may hold others.
    beside: the file may lie in a folder of the repository's name beside the model's.
    """

    repository: str
    file: File
    prefix: str
    rules: tuple[Rule | Drop, ...]
    beside: bool = False

    def tensors(
        self, path: Path, shapes: Mapping[str, tuple[int, ...]]
    ) -> Iterator[tuple[str, np.ndarray]]:
        """The tensors of ``shapes`` in turn, out of the file at ``path``.

        Raises:
            ModelFolderError: the file is damaged or does not hold them.
        """
        reader = Reader(path, remedy=self.remedy)
        names = [name for name in reader.tensors if name.startswith(self.prefix)]
        return rules.apply(rules.plan(self.rules, names), reader.read, shapes)

    @property
    def remedy(self) -> str:
        return f"fetch it with: hf download {self.repository} {self.file.name} --force-download"


_S3GEN = upstream.published(OFFICIAL, upstream.S3GEN_FILE)
_VOICE_ENCODER = upstream.published(OFFICIAL, upstream.VOICE_ENCODER_FILE)

DONORS: Mapping[str, tuple[Donor, ...]] = {
    "ve": (Donor(OFFICIAL, _VOICE_ENCODER, "", tuple(voice_encoder.RULES)),),
    "s3gen.speaker_encoder": (Donor(OFFICIAL, _S3GEN, "speaker_encoder.", tuple(campplus.RULES)),),
    "s3tokenizer": (
        Donor(
            S3_TOKENIZER, File("model.safetensors"), "", tuple(s3_tokenizer_v2.RULES), beside=True
        ),
        Donor(OFFICIAL, _S3GEN, "tokenizer.", tuple(s3_tokenizer.RULES)),
    ),
}
"""For each network the donors in order of preference; the S3 tokenizers are the same weights."""


def find(donor: Donor, folder: Path, *, network: bool) -> Path | None:
    """The donor's file, from beside ``folder`` or from the Hub; None where it cannot be had.

    Args:
        network: ask the Hub; else only its cache on this machine.

    Raises:
        ModelFolderError: the file is there but is not the published one.
        DownloadError: the Hub does not answer.
    """
    if donor.beside:
        path = folder.parent / donor.repository.partition("/")[2] / donor.file.name
        if path.is_file():
            return path
    path = upstream.find_file(donor.repository, donor.file.name, network=network)
    if path is not None:
        upstream.check_file(path, donor.file, remedy=donor.remedy)
    return path
