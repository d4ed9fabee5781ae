"""``from_pretrained()`` with nothing given: downloads, converts once, and then needs no network.

The Hub is its own cache folder on the disk, filled with a small checkpoint that goes by the
official name.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlx_audio_turbo import ChatterboxTurbo, DownloadError, ModelFolderError
from mlx_audio_turbo.loading.catalog import DEFAULT_MODEL, resolve
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import published
from mlx_audio_turbo_convert.__main__ import main
from mlx_audio_turbo_convert.published import TURBO_S3GEN, VOICE_ENCODER_FILE
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


@pytest.fixture
def hub(tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the Hub's own library lays it out; gives the repository's folder in it."""
    official = published.MODELS["turbo"]
    small = dataclasses.replace(
        official,
        config=TINY,
        t3=published.File(official.t3.name),
        s3gen=published.File(official.s3gen.name),
        voice_encoder=published.File(official.voice_encoder.name),
    )
    monkeypatch.setitem(published.MODELS, "turbo", small)  # type: ignore[arg-type]
    monkeypatch.setenv("MLX_AUDIO_TURBO_CACHE", str(tmp_path / "converted"))
    place = tmp_path / "hub" / ("models--" + DEFAULT_MODEL.replace("/", "--"))
    snapshot = place / "snapshots" / COMMIT
    synthetic.write_checkpoint(snapshot, config=TINY, name="turbo")
    for name in ("config.json", "README.md"):
        (snapshot / name).unlink()
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    return place


def test_converted_once_then_no_network(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[int, int]] = []
    first = resolve(DEFAULT_MODEL, progress=lambda *step: seen.append(step))
    assert seen and seen[-1][0] == seen[-1][1]
    values = json.loads((first / "config.json").read_text())
    assert values["source"] == {"repository": DEFAULT_MODEL, "revision": COMMIT, "trained": True}
    assert "base_model:\n- ResembleAI/chatterbox-turbo" in (first / "README.md").read_text()
    stamp = (first / "model.safetensors").stat().st_mtime_ns

    def network(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was asked")

    shutil.rmtree(hub)
    monkeypatch.setattr("huggingface_hub.snapshot_download", network)
    monkeypatch.setattr("socket.socket.connect", network)
    model = ChatterboxTurbo.from_pretrained()
    assert model.config == TINY and model.trained
    assert resolve(DEFAULT_MODEL) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert capfd.readouterr() == ("", "")


def test_each_revision_has_its_own(hub: Path) -> None:
    shutil.copytree(hub / "snapshots" / COMMIT, hub / "snapshots" / OTHER)
    newest, other = resolve(DEFAULT_MODEL), resolve(DEFAULT_MODEL, revision=OTHER)
    assert newest != other
    values = json.loads((other / "config.json").read_text())
    assert values["source"]["revision"] == OTHER


def test_an_absent_model_without_network_gives_one_line(hub: Path, tmp_path: Path) -> None:
    shutil.rmtree(hub)
    with pytest.raises(DownloadError, match=DEFAULT_MODEL):
        ChatterboxTurbo.from_pretrained()
    assert not (tmp_path / "converted").exists()


def test_a_damaged_download_is_named(hub: Path, tmp_path: Path) -> None:
    path = hub / "snapshots" / COMMIT / TURBO_S3GEN
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFolderError) as caught:
        resolve(DEFAULT_MODEL)
    message = str(caught.value)
    assert str(path) in message and "cut short" in message
    command = f"hf download {DEFAULT_MODEL} {path.name} --revision {COMMIT} --force-download"
    assert message.endswith(f"fetch it with: {command}")
    assert list((tmp_path / "converted").iterdir()) == []


def test_sums_that_are_known_are_checked(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = published.File(VOICE_ENCODER_FILE, None, "0" * 64)
    model = dataclasses.replace(published.MODELS["turbo"], voice_encoder=wrong)
    monkeypatch.setitem(published.MODELS, "turbo", model)  # type: ignore[arg-type]
    with pytest.raises(ModelFolderError, match=r"SHA-256 differs.*hf download.*ve.safetensors"):
        resolve(DEFAULT_MODEL)


def test_build_and_verify_take_the_same(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", "--model", "turbo", "--quantize"]) == 0
    assert main(["verify", "Chatterbox-Turbo-TTS-4bit"]) == 0
    text = (tmp_path / "Chatterbox-Turbo-TTS-4bit" / "README.md").read_text()
    assert "base_model_relation: quantized" in text and COMMIT in text
