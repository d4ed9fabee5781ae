"""Upstream's five GPT-2 tokenizer files as one ``tokenizer.json``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mlx_audio_turbo.errors import ModelFolderError, OptionError

LEGACY_FILES = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)

END_OF_TEXT = "<|endoftext|>"

TAGS = (
    "[angry]",
    "[fear]",
    "[surprised]",
    "[whispering]",
    "[advertisement]",
    "[dramatic]",
    "[narration]",
    "[crying]",
    "[happy]",
    "[sarcastic]",
    "[clear throat]",
    "[sigh]",
    "[shush]",
    "[cough]",
    "[groan]",
    "[sniff]",
    "[gasp]",
    "[chuckle]",
    "[laugh]",
)
"""In the order of their ids, which are the last of the vocabulary."""


def write_tokenizer(source: Path, target: Path) -> None:
    """Put ``tokenizer.json`` into the folder ``target``, and upstream's own files beside it.

    A ``source`` that has only a ``tokenizer.json`` gives that one.

    Raises:
        ModelFolderError: a file or a tag is missing, or the files disagree.
    """
    if (source / "tokenizer.json").exists() and not (source / "vocab.json").exists():
        _copy_tokenizer(source, target)
        return
    build_tokenizer(source).save(str(target / "tokenizer.json"))
    for name in LEGACY_FILES:
        shutil.copyfile(source / name, target / name)


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Copy ``tokenizer.json``, its added tokens in the order of their ids.

    Whoever loads one gives them ids in the order of the file, whatever ids it says: in files that
    list them by the alphabet ``[laugh]`` becomes ``[sigh]``.
    """
    values = _read(source, "tokenizer.json")
    added = values.get("added_tokens", [])
    ordered = sorted(added, key=lambda token: token["id"])
    tokenizer = Tokenizer.from_str(json.dumps({**values, "added_tokens": ordered}))
    for token in ordered:
        _check_id(tokenizer, token["content"], token["id"], source)
    _check_tags(tokenizer, source)
    if added == ordered:
        shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    else:
        tokenizer.save(str(target / "tokenizer.json"))


def _check_id(tokenizer: Tokenizer, content: str, wanted: int, source: Path) -> None:
    # A new token gets the first free id, whatever id its file gives it.
    if tokenizer.token_to_id(content) != wanted:
        raise ModelFolderError(
            f"{content} has id {wanted} in {source} but would get "
            f"{tokenizer.token_to_id(content)}; download the checkpoint again"
        )


def build_tokenizer(source: Path) -> Tokenizer:
    """The byte-level BPE of ``vocab.json`` and ``merges.txt`` with every added token.

    The tags stand in ``added_tokens.json`` and ``tokenizer_config.json`` only: without them
    ``[laugh]`` would be spelled out letter by letter.

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

    For untrained checkpoints. Ids: 256 bytes, unused fillers, end of text, then the 19 tags, which
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
