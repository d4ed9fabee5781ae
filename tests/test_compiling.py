"""Kernels compiled in other processes, and the folder where their code is kept."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.ops.compiled import ahead, place, runtime

needs_numba = pytest.mark.skipif(not compiled.available(), reason=str(compiled.reason()))
JOB = ahead.Job("vocoder_kernels")


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and kernels that this process has not compiled."""
    monkeypatch.setenv(place.CACHE, str(tmp_path))
    monkeypatch.setattr(runtime, "place_of_code", place.folder.__wrapped__)
    monkeypatch.setattr(ahead, "_begun", {})
    monkeypatch.setattr(ahead, "_workers", {})
    kernels = [kernel for kernel, _ in JOB.kernels()]
    before = [kernel._compiled for kernel in kernels]
    for kernel in kernels:
        kernel._compiled = None
    yield tmp_path
    for thread in threading.enumerate():
        if thread.name.startswith("compiling"):
            thread.join()
    for kernel, made in zip(kernels, before, strict=True):
        kernel._compiled = made


def begin_and_wait(**options: bool) -> None:
    compiled.in_background([JOB], name="a test", worker=0, **options)
    compiled.compile_jobs([JOB])


def here() -> list[int]:
    """How many kernels this process has compiled, and how many it has read."""
    made = [kernel._compiled.stats for kernel, _ in JOB.kernels()]
    return [
        sum(sum(each.values()) for each in kind)
        for kind in ([each.cache_misses for each in made], [each.cache_hits for each in made])
    ]


@needs_numba
def test_another_process_compiles_and_a_warm_cache_starts_none(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_and_wait()
    assert here() == [0, 2]
    for kernel, _ in JOB.kernels():
        kernel._compiled = None

    def fail(*_: object, **__: object) -> bool:
        raise AssertionError("a process was started")

    monkeypatch.setattr(ahead, "_give", fail)
    begin_and_wait()
    assert here() == [0, 2]


@needs_numba
def test_a_worker_takes_more_until_it_has_none(cold: Path) -> None:
    jobs = [JOB, ahead.Job("pieces")]
    for job in jobs:
        compiled.in_background([job], name="a test", worker=0)
    assert all(begun.wait(60) for begun in list(ahead._begun.values()))
    compiled.compile_jobs([JOB])
    assert here() == [0, 2]
    ahead._workers[0]._process.wait(60)
    assert not ahead._workers[0].take(jobs)


def frozen(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)


def no_interpreter(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "executable", "")


def missing_interpreter(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(folder / "python3"))


def another_program(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")


def program_that_fails(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(ahead, "PROGRAM", "raise SystemExit(1)")


def program_that_is_deaf(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(ahead, "PROGRAM", "import time; time.sleep(3)")
    monkeypatch.setattr(ahead, "PATIENCE", 0.1)


def folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv(place.CACHE, "/proc/self/cache")


@needs_numba
@pytest.mark.parametrize(
    "broken",
    [
        frozen,
        no_interpreter,
        missing_interpreter,
        another_program,
        program_that_fails,
        program_that_is_deaf,
        folder_that_cannot_be_written,
    ],
    ids=lambda each: each.__name__,
)
def test_where_no_other_process_compiles_this_one_does(
    broken: Callable[[pytest.MonkeyPatch, Path], None],
    cold: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken(monkeypatch, cold)
    begin_and_wait()
    assert here() == [2, 0]


@needs_numba
def test_an_error_of_the_compiler_reaches_who_needs_the_kernel(
    cold: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_audio_turbo.ops.compiled import vocoder_kernels

    def fail() -> list[object]:
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(vocoder_kernels, "wanted", fail)
    with pytest.raises(RuntimeError, match="no such instruction"):
        begin_and_wait()


def test_code_of_old_versions_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used in the last month stays, as does what is not ours."""
    monkeypatch.setenv(place.CACHE, str(tmp_path))
    old = time.time() - 31 * place.DAY
    used = {"kernels-0123456789abcdef": old, "kernels-1123456789abcdef": time.time()}
    for name in (*used, "kernels-mine", "tiny-0123456789abcdef"):
        file = tmp_path / name / "a" / "code.nbc"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        for each in (file, file.parent, file.parent.parent):
            os.utime(each, (old, old))
        os.utime(file, (used.get(name, old), old))
    (tmp_path / "kernels-2123456789abcdef").symlink_to(tmp_path / "kernels-mine")
    found = place.folder.__wrapped__()
    assert found is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [
            *("kernels-1123456789abcdef", "kernels-2123456789abcdef"),
            *("kernels-mine", "tiny-0123456789abcdef", found.name),
        ]
    )


def test_what_cannot_be_removed_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(place.CACHE, str(tmp_path))
    folder = tmp_path / "kernels-0123456789abcdef"
    folder.mkdir()
    os.utime(folder, (0, 0))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "rmdir", refuse)
    assert place.folder.__wrapped__() is not None and folder.exists()
