"""Folders are there whole or not at all, whatever ends the process that makes them."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.files import lock
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import atomic_folder as files
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic

LEFTOVER = ".model.0123abcd.mlx-audio-turbo"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    with files.new_folder(tmp_path / "model") as place:
        (place / "config.json").write_text("old")
    return tmp_path / "model"


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / LEFTOVER
    leftover.mkdir()
    (leftover / "model.safetensors").touch()
    others = [tmp_path / name for name in (".model.partial", "notes.0123abcd.mlx-audio-turbo")]
    for other in others:
        other.mkdir()
    (tmp_path / ".x.0123abcd.mlx-audio-turbo").symlink_to(others[0])
    with files.new_folder(tmp_path / "another"):
        assert not leftover.exists()
    assert all(other.exists() for other in others)


def test_folders_that_a_process_works_on_are_kept(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "one") as one:
        (one / "config.json").touch()
        with files.new_folder(tmp_path / "two") as two:
            (two / "config.json").touch()
            assert one.exists() and two.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


@pytest.mark.parametrize("number", sorted({*lock.WITHOUT_LOCKS}))
def test_file_systems_without_locks(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network volumes; a Mac has two numbers for "not supported"."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with files.new_folder(tmp_path / "model") as place:
        (place / "config.json").touch()
    assert (tmp_path / "model" / "config.json").exists()
    assert not lock.Lock(tmp_path / "lock").works


def test_folders_that_cannot_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "fsync", refuse)
    with files.new_folder(tmp_path / "model") as place:
        (place / "config.json").touch()
    assert (tmp_path / "model" / "config.json").exists()


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_is_replaced_whole(
    model: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with files.new_folder(model, force=True) as place:
        (place / "config.json").write_text("new")
        assert (model / "config.json").read_text() == "old"
    assert (model / "config.json").read_text() == "new"
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_replaced_folder_is_never_absent(model: Path) -> None:
    """Somebody who looks all the time always finds a folder."""
    if not files._exchange(model, model):
        pytest.skip("this system cannot exchange two names")
    over = threading.Event()
    looks, gone = [0], [0]

    def look() -> None:
        while not over.is_set():
            looks[0] += 1
            gone[0] += not model.exists()

    watcher = threading.Thread(target=look)
    watcher.start()
    for i in range(50):
        with files.new_folder(model, force=True) as place:
            (place / "config.json").write_text(str(i))
    over.set()
    watcher.join()
    assert looks[0] > 50 and gone[0] == 0


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_disk_that_fails(model: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ModelFolderError, match="cannot be written") as caught,
        files.new_folder(model, force=True),
    ):
        raise OSError(error, os.strerror(error))
    assert os.strerror(error) in str(caught.value)
    assert (model / "config.json").read_text() == "old"
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ModelFolderError, match="cannot be written"),
        files.new_folder(tmp_path / "file" / "model"),
    ):
        pass


def test_a_link_is_not_replaced(model: Path) -> None:
    link = model.with_name("link")
    link.symlink_to(model)
    with (
        pytest.raises(ModelFolderError, match="no model folder"),
        files.new_folder(link, force=True),
    ):
        pass
    assert link.is_symlink() and (model / "config.json").exists()


def test_a_full_disk(tmp_path: Path) -> None:
    """A real one, as far as a process can tell: files may not grow over 2 MB."""
    checkpoint = synthetic.write_checkpoint(tmp_path / "tiny", config=TINY, name="tiny")
    output = tmp_path / "place" / "model"
    command = ["build", "--source", str(checkpoint), "--output", str(output)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))

    run = subprocess.run(
        [sys.executable, "-m", "mlx_audio_turbo_convert", *command],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert "cannot be written (File too large)" in run.stderr and run.stderr.count("\n") == 1
    assert list(output.parent.iterdir()) == []


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """No more than the largest tensors are held at once."""
    checkpoint = synthetic.write_checkpoint(tmp_path / "tiny", config=TINY, name="tiny")
    import tracemalloc

    source = recognise(checkpoint)
    tracemalloc.start()
    folder.convert(source, tmp_path / "model", dtype="float16")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    largest = 6563 * 64 * 4
    assert peak < 4 * largest + 6e6  # and 6 MB for the plan, the headers and the tokenizer


def test_a_process_killed_at_any_moment_leaves_a_whole_folder_or_none() -> None:
    command = [sys.executable, "-m", "tests.measure.stress.kills", "--count", "12"]
    root = Path(__file__).parents[1]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert run.returncode == 0, run.stderr
    assert "12 attempts" in run.stdout and "0 others" in run.stdout
