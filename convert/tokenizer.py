"""The tokenizer of a checkpoint as one ``tokenizer.json``, whichever files it has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mlx_audio_turbo.config import OriginalT3Config, T3Config
from mlx_audio_turbo.errors import ModelFolderError, OptionError
from mlx_audio_turbo.loading import hub
from mlx_audio_turbo.presets import TAGS

LEGACY_FILES = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)

TOKENIZER_FILE = "tokenizer.json"
MULTILINGUAL_FILE = "grapheme_mtl_merged_expanded_v1.json"
CANGJIE_FILE = "Cangjie5_TC.json"
"""The codes of Chinese characters, which the multilingual model spells out."""
SPACE = "[SPACE]"

END_OF_TEXT = "<|endoftext|>"


def write_tokenizer(
    source: Path,
    target: Path,
    config: T3Config | OriginalT3Config,
    *,
    multilingual: bool = False,
) -> None:
    """Put ``tokenizer.json`` into the folder ``target``, and what else the text steps read.

    Turbo has five files of GPT-2's tokenizer, which are copied as well, or only a
    ``tokenizer.json``; the original has ``tokenizer.json``; the multilingual model has a table of
    graphemes and the Cangjie codes.

    Raises:
        ModelFolderError: a file or an id is missing, or the files disagree.
    """
    if isinstance(config, OriginalT3Config):
        _write_original(source, target, config, multilingual=multilingual)
    elif (source / TOKENIZER_FILE).exists() and not (source / "vocab.json").exists():
        _copy_tokenizer(source, target)
    else:
        build_tokenizer(source).save(str(target / TOKENIZER_FILE))
        for name in LEGACY_FILES:
            shutil.copyfile(source / name, target / name)


def _write_original(
    source: Path, target: Path, config: OriginalT3Config, *, multilingual: bool
) -> None:
    """The original's BPE as it is: its ids, spaces and special tokens stand in the file."""
    name = MULTILINGUAL_FILE if multilingual else TOKENIZER_FILE
    path = source / name
    if not path.is_file():
        raise ModelFolderError(f"{path} is missing; {_again(path)}")
    values = _read(source, name)
    try:
        values["model"]["vocab"]
        tokenizer = Tokenizer.from_str(json.dumps(values))
    except (KeyError, TypeError):
        raise ModelFolderError(f"{path} is no tokenizer; {_again(path)}") from None
    wanted = {"[START]": config.start_text, "[STOP]": config.stop_text}
    for token, index in wanted.items():
        if tokenizer.token_to_id(token) != index:
            raise ModelFolderError(
                f"{path} gives {token} the id {tokenizer.token_to_id(token)}, not {index}; "
                f"{_again(path)}"
            )
    if tokenizer.token_to_id(SPACE) is None:
        raise ModelFolderError(f"{path} has no {SPACE}; {_again(path)}")
    largest = max(tokenizer.get_vocab().values())
    if largest >= config.text_vocabulary:
        raise ModelFolderError(
            f"{path} has the id {largest} where the model has {config.text_vocabulary} rows: it is "
            "the tokenizer of another model; give the checkpoint's own"
        )
    shutil.copyfile(path, target / TOKENIZER_FILE)
    if multilingual:
        if not (source / CANGJIE_FILE).is_file():
            raise ModelFolderError(
                f"{source / CANGJIE_FILE} is missing; {_again(source / CANGJIE_FILE)}"
            )
        shutil.copyfile(source / CANGJIE_FILE, target / CANGJIE_FILE)


def _again(path: Path) -> str:
    return hub.remedy(path, otherwise="download the checkpoint again")


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copy ``tokenizer.json``, its added tokens in the order of their ids.

    A loader numbers added tokens in the order of the file, and not by the ids that it gives: in a
    file in alphabetical order ``[laugh]`` would become ``[sigh]``.
    """
    values = _read(source, TOKENIZER_FILE)
    added = values.get("added_tokens", [])
    ordered = sorted(added, key=lambda token: token["id"])
    tokenizer = Tokenizer.from_str(json.dumps({**values, "added_tokens": ordered}))
    for token in ordered:
        _check_id(tokenizer, token["content"], token["id"], source)
    _check_tags(tokenizer, source)
    if added == ordered:
        shutil.copyfile(source / TOKENIZER_FILE, target / TOKENIZER_FILE)
    else:
        tokenizer.save(str(target / TOKENIZER_FILE))


def _check_id(tokenizer: Tokenizer, content: str, wanted: int, source: Path) -> None:
    # A new token gets the first free id, not that of its file.
    if tokenizer.token_to_id(content) != wanted:
        raise ModelFolderError(
            f"{content} has id {wanted} in {source} but would get "
            f"{tokenizer.token_to_id(content)}; download the checkpoint again"
        )


def build_tokenizer(source: Path) -> Tokenizer:
    """The byte-level BPE of ``vocab.json`` and ``merges.txt`` with every added token.

    The tags stand in ``added_tokens.json`` and ``tokenizer_config.json`` only: without them
    ``[laugh]`` would be spelled letter by letter.

    Raises:
        ModelFolderError: a file or a tag is missing, or the files disagree.
    """
    for name in LEGACY_FILES:
        if not (source / name).is_file():
            raise ModelFolderError(f"{source / name} is missing; download the checkpoint again")
    vocabulary: dict[str, int] = _read(source, "vocab.json")
    config = _read(source, "tokenizer_config.json")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=_read_merges(source, vocabulary),
            continuing_subword_prefix="",
            end_of_word_suffix="",
        )
    )
    prefix = config.get("add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()

    ids: dict[str, int] = dict(_read(source, "added_tokens.json"))
    described = config.get("added_tokens_decoder", {})
    ids.update({flags["content"]: int(index) for index, flags in described.items()})
    flags_of = {flags["content"]: flags for flags in described.values()}
    for content in sorted(ids, key=ids.__getitem__):
        flags = flags_of.get(content, {"content": content, "normalized": True, "special": False})
        token = AddedToken(**flags)
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        _check_id(tokenizer, content, ids[content], source)
    _check_tags(tokenizer, source)
    return tokenizer


def byte_level_files(folder: Path, *, vocabulary: int) -> None:
    """Write a made-up set of the five files: each byte a token, no merges, the real tags last.

    For untrained checkpoints. Ids: 256 bytes, unused fillers, end of text, then the tags, which
    end at ``vocabulary`` - 1.

    Raises:
        OptionError: ``vocabulary`` has no room for these.
    """
    end = vocabulary - len(TAGS) - 1
    symbols = _byte_symbols()
    if end < len(symbols):
        smallest = len(symbols) + 1 + len(TAGS)
        raise OptionError(f"a text vocabulary of {vocabulary} is too small; at least {smallest}")
    tokens = [*symbols, *(f"filler{i}" for i in range(len(symbols), end)), END_OF_TEXT]
    tags = {tag: end + 1 + i for i, tag in enumerate(TAGS)}
    added = {
        str(index): {
            "content": content,
            "lstrip": False,
            "normalized": True,
            "rstrip": False,
            "single_word": False,
            "special": content == END_OF_TEXT,
        }
        for content, index in {END_OF_TEXT: end, **tags}.items()
    }
    special = {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "pad", "unk")}
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "model_max_length": 1024,
        "tokenizer_class": "GPT2Tokenizer",
        **special,
    }
    contents = {
        "vocab.json": json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False),
        "merges.txt": "#version: 0.2\n",
        "added_tokens.json": json.dumps(tags, indent=2),
        "tokenizer_config.json": json.dumps(config, indent=2),
        "special_tokens_map.json": json.dumps(special, indent=2),
    }
    for name, content in contents.items():
        (folder / name).write_text(content, "utf-8")


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in the order of its ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + i) for i in range(others)]


def _read(source: Path, name: str) -> Any:
    try:
        return json.loads((source / name).read_text("utf-8"))
    except ValueError as error:
        raise ModelFolderError(
            f"{source / name} is damaged; download the checkpoint again"
        ) from error


def _read_merges(source: Path, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    lines = (source / "merges.txt").read_text("utf-8").split("\n")
    merges = []
    for line in lines:
        if not line or line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not {left, right, left + right} <= vocabulary.keys():
            raise ModelFolderError(
                f"merges.txt in {source} joins {line!r}, which vocab.json lacks; "
                "download the checkpoint again"
            )
        merges.append((left, right))
    return merges


def _check_tags(tokenizer: Tokenizer, source: Path) -> None:
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = [tag for tag in TAGS if tag not in added]
    if missing:
        raise ModelFolderError(
            f"the tokenizer in {source} lacks the tag {missing[0]}; download the checkpoint again"
        )
