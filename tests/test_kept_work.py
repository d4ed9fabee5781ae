"""The kept segments of a long text belong to one run, and are believed when they are whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlx_audio_turbo import Speech, Voice, tts
from mlx_audio_turbo.cli.resume import Journal
from mlx_audio_turbo.files.lock import Lock, Taken

TEXT = "".join(f"Sentence number {i} is here to be said.\n\n" for i in range(6))


def arguments(kept: Path, *more: str) -> list[str]:
    return [
        *("--file", "book.txt", "--model", "tiny", "--voice", str(kept), "--seed", "1"),
        *("--max_tokens", "8", "--batch_size", "2", "--output", "book.wav", *more),
    ]


@pytest.fixture(scope="module")
def template(tiny_folder: Path, voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with book.txt, whole.wav, which is its speech, and a run that broke off."""
    folder = tmp_path_factory.mktemp("template")
    path = voice.save(folder / "v.safetensors")
    (folder / "book.txt").write_text(TEXT)
    add = Journal.add

    def add_and_stop(journal: Journal, index: int, speech: Speech) -> None:
        add(journal, index, speech)
        if len(journal.finished) == 5:
            raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert tts.main([*arguments(path), "--output", "whole.wav"]) == 0
        patch.setattr(Journal, "add", add_and_stop)
        assert tts.main(arguments(path)) == 2
    return folder


@pytest.fixture
def kept(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A voice; the current folder is a copy of ``template`` without the run that broke off."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    shutil.move(tmp_path / "book.wav.part", tmp_path / "interrupted")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "v.safetensors"


def interrupt() -> Path:
    """A run that ended after five of six segments."""
    shutil.move("interrupted", "book.wav.part")
    return Path("book.wav.part")


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    """As after a power cut: the length is right."""
    path.write_bytes(bytes(path.stat().st_size))


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


def gone(path: Path) -> None:
    path.unlink()


def another(path: Path) -> None:
    path.write_bytes(path.with_name("00000.flac").read_bytes())


@pytest.mark.parametrize("damage", [half, zeros, one_bit, gone, another])
@pytest.mark.parametrize("name", ["00001.flac", "00002.json"])
def test_a_damaged_segment_is_spoken_again(
    damage: Callable[[Path], None],
    name: str,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """That one alone, wherever it lies among the others."""
    folder = interrupt()
    damage(folder / name)
    capsys.readouterr()
    assert tts.main(arguments(kept, "--resume", "--json")) == 0
    out, err = capsys.readouterr()
    assert "4 of 6 segments are kept" in err
    assert json.loads(out)["segments"] == 6
    assert Path("book.wav").read_bytes() == Path("whole.wav").read_bytes()
    assert not folder.exists()


def test_a_segment_damaged_during_the_run_is_no_error_of_writing(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = interrupt()
    add = Journal.add

    def add_and_damage(journal: Journal, index: int, speech: Speech) -> None:
        add(journal, index, speech)
        half(folder / "00001.flac")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", add_and_damage)
        assert tts.main(arguments(kept, "--resume")) == 2
    err = capsys.readouterr().err
    assert "--resume speaks this segment again" in err
    assert "cannot be written" not in err
    assert tts.main(arguments(kept, "--resume")) == 0
    assert Path("book.wav").read_bytes() == Path("whole.wav").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace(".\n", ". \t \n"),
        lambda text: f"\ufeff{text.strip()}",
        lambda text: f"\n\n{text}\n\n \n",
    ],
    ids=["Windows", "old Mac", "trailing spaces", "byte order mark", "blank lines around"],
)
def test_harmless_changes_of_the_text_lose_nothing(
    change: Callable[[str], str],
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupt()
    Path("book.txt").write_bytes(change(TEXT).encode())
    assert tts.main(arguments(kept, "--resume")) == 0
    assert "5 of 6 segments are kept" in capsys.readouterr().err
    assert Path("book.wav").read_bytes() == Path("whole.wav").read_bytes()


def test_another_text_is_refused(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt()
    Path("book.txt").write_text(TEXT.replace("number 3", "number three"))
    assert tts.main(arguments(kept, "--resume")) == 2
    assert "another text" in capsys.readouterr().err


def test_the_model_is_the_same_by_another_path(kept: Path, tiny_folder: Path) -> None:
    os.symlink(tiny_folder, "model")
    manifest = interrupt() / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', f'"{tiny_folder.resolve()}"'))
    assert tts.main(arguments(kept, "--resume", "--model", "./model/")) == 0


@pytest.mark.parametrize("more", [(), ("--resume",), ("--restart",)])
def test_a_second_run_for_the_same_output_ends_at_once(
    more: tuple[str, ...], kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by another spelling or a link, and for a short text."""
    os.symlink("book.wav", "link.wav")
    journal = Journal.claim(Path("book.wav"), resume=False, restart=False)
    for output in ("book.wav", f"{Path.cwd()}/book.wav", "link.wav"):
        assert tts.main(arguments(kept, *more, "--output", output)) == 2
        err = capsys.readouterr().err
        assert "another run (process" in err and f"{os.getpid()} on" in err
        assert "--restart" not in err
    Path("book.txt").write_text("Short.")
    assert tts.main(arguments(kept, *more)) == 2
    assert not Path("book.wav").exists()
    journal.remove()
    assert tts.main(arguments(kept, *more)) == 0
    assert not Path("book.wav.part").exists()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from mlx_audio_turbo.files.lock import Lock\n"
        "lock = Lock(Path(sys.argv[1])); print('taken', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline() == b"taken\n"
        with pytest.raises(Taken, match=f"process {child.pid} on"):
            Lock(path)
        child.kill()
        child.wait()
    lock = Lock(path)
    lock.release()
    assert not path.exists()


def test_a_file_system_without_locks_is_told(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert tts.main(arguments(kept)) == 0
    assert "has no locks" in capsys.readouterr().err
    assert Path("book.wav").read_bytes() == Path("whole.wav").read_bytes()


def test_two_processes_at_once(kept: Path) -> None:
    """One of them speaks; its file is its own text alone."""
    Path("other.txt").write_text(TEXT.replace("Sentence", "Another sentence") * 3)
    Path("book.txt").write_text(TEXT * 3)
    command = [sys.executable, "-m", "mlx_audio_turbo.tts", *arguments(kept), "--json"]
    children = [
        subprocess.Popen(
            [*command, "--file", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for name in ("book.txt", "other.txt")
    ]
    told = [child.communicate(timeout=100) for child in children]
    codes = [child.returncode for child in children]
    # The second may begin when the first has ended.
    assert set(codes) <= {0, 2} and 0 in codes
    for (_, err), code in zip(told, codes, strict=True):
        assert code == 0 or "another run" in err
    import soundfile

    durations = [json.loads(out)["duration"] for out, _ in told if out]
    assert any(np.isclose(soundfile.info("book.wav").duration, each) for each in durations)


def test_only_our_files_are_removed(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = interrupt()
    (folder / "notes.txt").write_text("mine")
    assert tts.main(arguments(kept, "--restart")) == 0
    assert os.listdir(folder) == ["notes.txt"]
