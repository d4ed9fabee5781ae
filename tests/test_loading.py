"""Loading is strict, and what it refuses is named in one line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import cast
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import ChatterboxTurbo, DownloadError, ModelFolderError, Voice
from mlx_audio_turbo.config import from_json, to_json
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.loading.networks import parameter_shapes
from mlx_audio_turbo.presets import TINY, TURBO

from .conftest import CLIP
from .helpers import whole


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def change_weights(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refused(folder: Path) -> str:
    with pytest.raises(ModelFolderError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_tensor_arrives_unchanged(tiny_folder: Path) -> None:
    loaded = load(tiny_folder)
    stored = load_file(tiny_folder / "model.safetensors")
    held = dict(tree_flatten(whole(loaded).parameters()))
    assert set(stored) == set(held)
    for name, array in stored.items():
        np.testing.assert_array_equal(np.array(held[name]), array)
    assert loaded.config == TINY


def test_dtype_of_the_arithmetic(tiny_folder: Path) -> None:
    loaded = load(tiny_folder, dtype=mx.bfloat16)
    named = cast(list[tuple[str, mx.array]], tree_flatten(whole(loaded).parameters()))
    listeners = ("ve.", "s3tokenizer.", "s3gen.speaker_encoder.")
    kinds: dict[str, set[mx.Dtype]] = {}
    for name, array in named:
        parts = ("t3.", "s3gen.flow.", "s3gen.mel2wav.", *listeners)
        part = next(part for part in parts if name.startswith(part))
        kinds.setdefault(part + "vectors" * (array.ndim == 1), set()).add(array.dtype)
    # The vocoder loses 15 to 30 dB in half precision; S3Gen is better off in float16.
    assert kinds == {
        "t3.": {mx.bfloat16},
        "t3.vectors": {mx.bfloat16},
        "s3gen.flow.": {mx.float16},
        "s3gen.flow.vectors": {mx.float16},
        "s3gen.mel2wav.": {mx.float32},
        "s3gen.mel2wav.vectors": {mx.float32},
        **{name: {mx.float16} for name in listeners},
        **{f"{name}vectors": {mx.float32} for name in listeners},
    }


def test_the_s3_tokenizer_is_in_memory_while_it_is_used(tiny_folder: Path, voice: Voice) -> None:
    later = load(tiny_folder).s3_tokenizer
    assert later is not None
    network = later.get()
    assert later.get() is network
    gone = weakref.ref(network)
    del network
    assert gone() is None
    model = ChatterboxTurbo.from_pretrained(tiny_folder)
    assert model.encode_voice(CLIP).fingerprint == voice.fingerprint
    assert model._loaded.s3_tokenizer is not None and model._loaded.s3_tokenizer._held() is None


def test_a_file_that_cannot_be_mapped_is_read_once(tiny_folder: Path, tmp_path: Path) -> None:
    """The network that is used later is read at once, so that the file's bytes can go."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    error = OSError(errno.ENODEV, "")
    with mock.patch("mmap.mmap", side_effect=error):
        model = ChatterboxTurbo.from_pretrained(folder)
    shutil.rmtree(folder)
    assert model.encode_voice(CLIP).t3_prompt_tokens.size


def test_a_missing_tensor_is_named(folder: Path) -> None:
    change_weights(folder, lambda t: t.pop("t3.speech_head.bias"))
    assert "lacks t3.speech_head.bias" in refused(folder)


def test_an_extra_tensor_is_named(folder: Path) -> None:
    change_weights(folder, lambda t: t.update(stray=np.ones(2, np.float32)))
    assert "unknown tensor stray" in refused(folder)


def test_a_misshapen_tensor_is_named(folder: Path) -> None:
    name = "t3.tfmr.h.0.mlp.c_fc.weight"
    change_weights(folder, lambda t: t.update({name: np.ascontiguousarray(t[name].T)}))
    assert name in refused(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights_are_named(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_damaged_json_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    refused(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["t3"].update(surprise=1),
        lambda a: a["t3"].pop("layers"),
        lambda a: a["t3"].update(layers="3"),
        lambda a: a["t3"].update(layers=-1),
        lambda a: a["t3"].update(layers=True),
        lambda a: a["hift"].update(upsample_rates=8),
        lambda a: a.update(t3=[]),
        lambda a: a["t3"].update(layers=4),
    ],
)
def test_wrong_sizes_are_named(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values["architecture"])
    path.write_text(json.dumps(values))
    refused(folder)


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}')
    assert "llama" in refused(folder)


def test_config_round_trip() -> None:
    for config in (TINY, TURBO):
        assert from_json(json.loads(json.dumps(to_json(config))), absent=TURBO) == config


def test_turbo_has_the_published_number_of_values() -> None:
    count = sum(int(np.prod(shape)) for shape in parameter_shapes(TURBO).values())
    # 478.9 M of T3 less text head and wte, 266 M of S3Gen's file, 1.4 M of VoiceEncoder
    assert 640e6 < count < 650e6


def test_unknown_names_are_named(tmp_path: Path, offline: None) -> None:
    for name in (tmp_path / "absent", "no-such-folder", "./x/y", ""):
        with pytest.raises(ModelFolderError, match="no model folder"):
            resolve(name)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ModelFolderError, match="is a file"):
        resolve(file)


@pytest.mark.parametrize("name", ["ResembleAI/chatterbox-turbo", "someone/some-model"])
def test_no_network_gives_one_line(name: str, offline: None) -> None:
    with pytest.raises(DownloadError) as caught:
        resolve(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_upstream_folders_are_converted_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

    monkeypatch.setenv("MLX_AUDIO_TURBO_CACHE", str(tmp_path / "own"))
    checkpoint = tmp_path / "upstream"
    write_checkpoint(checkpoint, config=TINY, name="tiny", seed=1)
    first = resolve(checkpoint)
    stamp = os.stat(first / "model.safetensors").st_mtime_ns
    assert first.is_relative_to(tmp_path / "own")
    assert resolve(checkpoint) == first
    assert os.stat(first / "model.safetensors").st_mtime_ns == stamp
    assert load(first).config == TINY


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    assert "config.json" in refused(resolve(tmp_path))
