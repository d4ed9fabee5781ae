"""Upstream's tokenizer files to one ``tokenizer.json``, and made-up files for untrained models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlx_audio_turbo.errors import ModelFolderError, OptionError
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo_convert.tokenizer import (
    LEGACY_FILES,
    TAGS,
    build_tokenizer,
    byte_level_files,
    write_tokenizer,
)

FILES = Path(__file__).parent / "data" / "tokenizer"


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    byte_level_files(folder, vocabulary=276)
    return folder


def edit(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value), "utf-8")


def test_upstreams_files(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(FILES)
    assert tokenizer.get_vocab_size() == 50_276
    assert [tokenizer.token_to_id(tag) for tag in TAGS] == list(range(50_257, 50_276))
    added = tokenizer.get_added_tokens_decoder()
    assert added[50_256].special and added[50_256].content == "<|endoftext|>"
    assert all(added[i].normalized and not added[i].special for i in range(50_257, 50_276))
    text = "  Ça va [clear throat] 😀? [LAUGH]"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text

    write_tokenizer(FILES, tmp_path, TURBO.t3)
    assert {path.name for path in tmp_path.iterdir()} == {*LEGACY_FILES, "tokenizer.json"}
    for name in LEGACY_FILES:
        assert (tmp_path / name).read_bytes() == (FILES / name).read_bytes()


@pytest.mark.parametrize("vocabulary", [276, 300, 50_276])
def test_made_up_files(vocabulary: int, tmp_path: Path) -> None:
    byte_level_files(tmp_path, vocabulary=vocabulary)
    tokenizer = build_tokenizer(tmp_path)
    assert tokenizer.get_vocab_size() == vocabulary
    first = vocabulary - 19
    assert tokenizer.token_to_id("<|endoftext|>") == first - 1
    assert [tokenizer.token_to_id(tag) for tag in TAGS] == list(range(first, vocabulary))
    every_byte = "".join(map(chr, [*range(0x80), *range(0x80, 0x800), 0x20AC, 0x1F600]))
    ids = tokenizer.encode(every_byte).ids
    assert len(ids) == len(every_byte.encode()) and max(ids) < 256
    assert tokenizer.decode(ids) == every_byte
    assert tokenizer.encode("filler256").ids == [ord(c) - 0x21 for c in "filler256"]
    assert tokenizer.encode("Hm [sigh].").ids[-2:] == [tokenizer.token_to_id("[sigh]"), 13]


def test_the_bytes_have_gpt2s_ids(made_up: Path) -> None:
    real = json.loads((FILES / "vocab.json").read_text("utf-8"))
    ours = json.loads((made_up / "vocab.json").read_text("utf-8"))
    single = {token: i for token, i in real.items() if i < 256}
    assert {token: i for token, i in ours.items() if i < 256} == single


def test_made_up_vocabularies_have_a_smallest_size(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="275 is too small; at least 276"):
        byte_level_files(tmp_path, vocabulary=275)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LEGACY_FILES)
def test_a_missing_file_is_named(name: str, made_up: Path, tmp_path: Path) -> None:
    (made_up / name).unlink()
    with pytest.raises(ModelFolderError, match=f"{name} is missing; download"):
        build_tokenizer(made_up)
    with pytest.raises(ModelFolderError, match="is missing; download"):
        write_tokenizer(made_up, tmp_path, TURBO.t3)
    assert not (tmp_path / "tokenizer.json").exists()


@pytest.mark.parametrize("name", [name for name in LEGACY_FILES if name.endswith("json")][:3])
def test_a_damaged_file_is_named(name: str, made_up: Path) -> None:
    (made_up / name).write_text("{", "utf-8")
    with pytest.raises(ModelFolderError, match=f"{name} is damaged; download"):
        build_tokenizer(made_up)


def test_a_missing_tag_is_named(made_up: Path) -> None:
    edit(made_up / "added_tokens.json", lambda tags: tags.pop("[laugh]"))
    edit(
        made_up / "tokenizer_config.json", lambda config: config["added_tokens_decoder"].pop("275")
    )
    with pytest.raises(ModelFolderError, match=r"lacks the tag \[laugh\]"):
        build_tokenizer(made_up)


def test_tags_of_either_file_are_enough(made_up: Path) -> None:
    edit(made_up / "tokenizer_config.json", lambda config: config.pop("added_tokens_decoder"))
    assert build_tokenizer(made_up).token_to_id("[laugh]") == 275


def test_an_id_that_cannot_be_kept(made_up: Path) -> None:
    edit(made_up / "added_tokens.json", lambda tags: tags.update({"[new]": 400}))
    with pytest.raises(ModelFolderError, match=r"\[new\] has id 400"):
        build_tokenizer(made_up)


def test_a_merge_of_unknown_tokens(made_up: Path) -> None:
    (made_up / "merges.txt").write_text("#version: 0.2\nh e\n", "utf-8")
    with pytest.raises(ModelFolderError, match=r"merges\.txt .* joins 'h e'"):
        build_tokenizer(made_up)


def test_a_source_with_tokenizer_json_alone(made_up: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "one", tmp_path / "two"
    source.mkdir()
    target.mkdir()
    build_tokenizer(made_up).save(str(source / "tokenizer.json"))
    write_tokenizer(source, target, TURBO.t3)
    assert [path.name for path in target.iterdir()] == ["tokenizer.json"]

    edit(source / "tokenizer.json", lambda values: values["added_tokens"].pop())
    with pytest.raises(ModelFolderError, match=r"lacks the tag \[laugh\]"):
        write_tokenizer(source, target, TURBO.t3)


def test_the_built_tokenizer_wins_over_a_stray_one(made_up: Path, tmp_path: Path) -> None:
    shutil.copyfile(made_up / "added_tokens.json", made_up / "tokenizer.json")
    write_tokenizer(made_up, tmp_path, TURBO.t3)
    assert json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["model"]["type"] == "BPE"
