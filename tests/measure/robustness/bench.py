"""Where bad inputs are tried: a folder, a tiny model, and what every attempt is looked at for."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, TurboError, Voice, tts
from mlx_audio_turbo import voice_library as voices
from mlx_audio_turbo.cli import voices as voices_command
from mlx_audio_turbo_convert import __main__ as convert

CLIP = Path(__file__).parents[2] / "data" / "1069-133699-0000.flac"
COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "tts": tts.main,
    "voices": voices_command.main,
    "convert": convert.main,
}
EXPECTED_LINES = ("not trained", "No consent is noted", "reached the limit of", "Warning: Xing")
"""Lines on standard error that say no mistake; the last is libmpg123's own."""


@dataclass
class Bench:
    """What the inputs are made from.

    folder: for the inputs; empty at first, and nothing may be written there but by the inputs.
    place: for the outputs; whatever is left there after a refusal is a partial file.
    tiny: the folder of the model.
    """

    folder: Path
    place: Path
    tiny: Path
    model: ChatterboxTurbo

    @cached_property
    def voice(self) -> Voice:
        return self.model.encode_voice(CLIP)

    @cached_property
    def voice_file(self) -> Path:
        return self.voice.save(self.folder / "voice.safetensors")

    @cached_property
    def checkpoint(self) -> Path:
        """A tiny checkpoint in the upstream layout."""
        from mlx_audio_turbo.presets import TINY
        from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

        write_checkpoint(self.folder / "checkpoint", config=TINY, name="tiny")
        return self.folder / "checkpoint"

    def file(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name

    def sound(
        self, name: str, samples: np.ndarray, rate: int = 24_000, *, subtype: str | None = None
    ) -> Path:
        import soundfile

        soundfile.write(self.folder / name, samples, rate, subtype=subtype)
        return self.folder / name

    def copy(self, folder: Path, change: Callable[[Path], None]) -> Path:
        """A copy of ``folder`` after ``change``; links, so that it costs nothing."""
        copy = Path(tempfile.mkdtemp(dir=self.folder)) / folder.name
        shutil.copytree(folder, copy, copy_function=os.link)
        change(copy)
        return copy


@dataclass(frozen=True)
class Command:
    """A command that is given something bad.

    code: the documented exit code: 2 where something must be put right, 0 for what looks odd and
        can yet be done.
    """

    program: str
    arguments: list[str]
    code: int = 2


@dataclass(frozen=True)
class Call:
    """A call of the library that is given something bad; ``fine`` where it can yet be done."""

    function: Callable[[], object]
    fine: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    problems: what should not have been; empty is good.
    line: the error as the user sees it; empty where there was none.
    """

    line: str
    problems: tuple[str, ...]
    seconds: float
    traceback: bool = False
    partial: tuple[str, ...] = ()


def attempt(bench: Bench, trial: Command | Call) -> Outcome:
    """Try it, look at it, and tidy up."""
    before = _listing(bench)
    started = time.perf_counter()
    run = _run_command if isinstance(trial, Command) else _run_call
    line, problems, traceback = run(trial)  # type: ignore[arg-type]
    seconds = time.perf_counter() - started
    partial = tuple(sorted(_listing(bench) - before)) if line else ()
    if partial:
        problems.append(f"left behind: {', '.join(partial)}")
    for left in bench.place.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return Outcome(line, tuple(problems), seconds, traceback, partial)


def _run_command(trial: Command) -> tuple[str, list[str], bool]:
    with _captured() as captured:
        try:
            code: object = COMMANDS[trial.program](trial.arguments)
        except SystemExit as error:
            code = error.code
        except BaseException as error:
            code = f"{type(error).__name__}: {error}"
    out, err = captured
    lines = [line for line in err[0].splitlines() if not any(e in line for e in EXPECTED_LINES)]
    traceback = "Traceback" in err[0] + out[0] or not isinstance(code, int)
    problems = ["a traceback"] if traceback else []
    if code != trial.code:
        problems.append(f"exit code {code}, not {trial.code}: {err[0][-500:]}")
    if trial.code == 0:
        return "", problems, traceback
    if len(lines) != 1 or not lines[0].startswith(f"mlx_audio_turbo.{trial.program}: "):
        problems.append(f"not one line: {err[0][-500:]!r}")
    if out[0]:
        problems.append(f"on standard output: {out[0][-200:]!r}")
    return lines[-1] if lines else "?", problems, traceback


def _run_call(trial: Call) -> tuple[str, list[str], bool]:
    with _captured() as (out, err):
        try:
            trial.function()
        except TurboError as error:
            line, wrong, traceback = str(error), trial.fine, False
        except BaseException as error:
            line, wrong, traceback = f"{type(error).__name__}: {error}", True, True
        else:
            line, wrong, traceback = "", not trial.fine, False
    problems = [f"came to: {line or 'no error'}"] if wrong else []
    if "\n" in line:
        problems.append(f"not one line: {line!r}")
    if out[0] or err[0]:
        problems.append(f"the library is not silent: {out[0] + err[0]!r}")
    return line, problems, traceback


@contextlib.contextmanager
def _captured() -> Iterator[tuple[list[str], list[str]]]:
    """Standard output and error, of C libraries too."""
    out, err = [""], [""]
    with tempfile.TemporaryFile("w+") as out_file, tempfile.TemporaryFile("w+") as err_file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        os.dup2(out_file.fileno(), 1)
        os.dup2(err_file.fileno(), 2)
        try:
            with contextlib.redirect_stdout(out_file), contextlib.redirect_stderr(err_file):
                yield out, err
        finally:
            for number, file, text in ((1, out_file, out), (2, err_file, err)):
                file.flush()
                os.dup2(kept[number - 1], number)
                os.close(kept[number - 1])
                file.seek(0)
                text[0] = file.read()


def _listing(bench: Bench) -> set[str]:
    """All that could be left behind: beside the outputs, and half-made things beside the inputs."""
    outputs = {str(path.relative_to(bench.place)) for path in bench.place.rglob("*")}
    return outputs | {path.name for path in bench.folder.iterdir() if path.name.startswith(".")}


@contextlib.contextmanager
def small_disk(place: Path, *, options: str) -> Iterator[Path | None]:
    """A disk of a few kilobytes at ``place``, where this system lets us mount one; else None."""
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
        place.rmdir()


def saved_voices(folder: Path) -> voices.VoiceLibrary:
    """A library of voices apart from the user's own; the commands use it as well."""
    os.environ["MLX_AUDIO_TURBO_VOICES"] = str(folder)
    return voices.VoiceLibrary(folder)
