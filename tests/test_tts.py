"""The command: what it writes, what it says, and how it refuses."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mlx_audio_turbo import Voice, tts
from mlx_audio_turbo.audio.files import load_audio, to_int16
from mlx_audio_turbo.cli.options import underscored
from mlx_audio_turbo.cli.resume import Journal
from mlx_audio_turbo.text.segments import split_text

from .conftest import CLIP
from .test_playing import Card, put_in

LONG = "\n\n".join(
    f"This is paragraph number {n}, which goes on for a while. It has more than one sentence, too. "
    "And so it fills a good part of what the model can speak at once, as paragraphs do, on and on, "
    "until at last it comes to an end, and the next one begins where it ended."
    for n in range(4)
)
"""More than 300 characters in all, and a paragraph each segment."""


@pytest.fixture
def kept(voice: Voice, tmp_path: Path) -> Path:
    folder = tmp_path / "kept"
    folder.mkdir()
    return voice.save(folder / "anna.safetensors")


def speak(tmp_path: Path, kept: Path, *more: str, text: str = "Hello there.") -> list[str]:
    return [
        *("--model", "tiny", "--text", text, "--voice", str(kept)),
        *("--output", str(tmp_path / "out.wav"), "--seed", "3", "--max_tokens", "12", *more),
    ]


def without(arguments: list[str], *names: str) -> list[str]:
    for name in names:
        at = arguments.index(name)
        del arguments[at : at + 2]
    return arguments


def process(
    arguments: list[str], *, stdin: bytes | None = None, **options: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "mlx_audio_turbo.tts", *arguments],
        input=stdin,
        capture_output=True,
        env=os.environ | options,
        timeout=120,
    )


def test_writes_a_wav(
    tmp_path: Path, tiny_folder: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tts.main(speak(tmp_path, kept, "--no_trim")) == 0
    samples, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 24_000
    assert len(samples) % 960 == 0
    assert samples.std() > 0.005
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'out.wav'}  {len(samples) / 24_000:.2f} s  seed 3\n"
    assert "not trained" in err


def test_it_is_what_the_library_makes(
    model, voice: Voice, tmp_path: Path, tiny_folder: Path, kept: Path
) -> None:
    speech = model.generate("Hello there.", voice=voice, seed=3, max_tokens=12)
    assert tts.main(speak(tmp_path, kept, "--no_trim")) == 0
    written = soundfile.read(tmp_path / "out.wav", dtype="int16")[0]
    np.testing.assert_array_equal(written, speech.to_int16())


def test_a_clip_and_a_kept_voice_speak_alike(
    tmp_path: Path, tiny_folder: Path, kept: Path, voice: Voice
) -> None:
    tts.main(speak(tmp_path, kept))
    first = (tmp_path / "out.wav").read_bytes()
    arguments = without(speak(tmp_path, kept, "--ref_audio", str(CLIP)), "--voice")
    assert tts.main([*arguments, "--save-voice", str(tmp_path / "new.safetensors")]) == 0
    assert (tmp_path / "out.wav").read_bytes() == first
    assert Voice.load(tmp_path / "new.safetensors") == voice


def test_dashes_are_accepted() -> None:
    given = ["--ref-audio", "a-b.wav", "--top-k=3-4", "well-known", "--", "--a-b"]
    assert underscored(given) == [
        *("--ref_audio", "a-b.wav", "--top_k=3-4", "well-known", "--", "--a-b")
    ]


@pytest.mark.parametrize("source", ["positional", "file", "stdin"])
def test_sources_of_text(tmp_path: Path, tiny_folder: Path, kept: Path, source: str) -> None:
    tts.main(speak(tmp_path, kept))
    first = (tmp_path / "out.wav").read_bytes()
    arguments = without(speak(tmp_path, kept), "--text")
    if source == "positional":
        assert tts.main(["Hello there.", *arguments]) == 0
    elif source == "file":
        (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbfHello there.")
        assert tts.main([*arguments, "--file", str(tmp_path / "text.txt")]) == 0
    else:
        assert process([*arguments, "-"], stdin=b"Hello there.").returncode == 0
    assert (tmp_path / "out.wav").read_bytes() == first


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "ogg", "opus", "pcm"])
def test_formats(tmp_path: Path, tiny_folder: Path, kept: Path, suffix: str) -> None:
    arguments = without(speak(tmp_path, kept), "--output")
    assert tts.main([*arguments, "--output", str(tmp_path / "x"), "--format", suffix]) == 0
    path = tmp_path / f"x.{suffix}"
    if suffix == "pcm":
        assert path.stat().st_size % 2 == 0
    else:
        assert soundfile.info(path).samplerate in (24_000, 48_000)


def test_a_folder_gets_names_that_are_free(tmp_path: Path, tiny_folder: Path, kept: Path) -> None:
    (tmp_path / "book.txt").write_text("Hello there.")
    arguments = without(speak(tmp_path, kept), "--output", "--text")
    arguments += ["--output", f"{tmp_path}/", "--file", str(tmp_path / "book.txt")]
    for _ in range(2):
        assert tts.main([*arguments, "--format", "flac"]) == 0
    assert {path.name for path in tmp_path.glob("book*.flac")} == {"book.flac", "book-2.flac"}


def test_standard_output(tmp_path: Path, tiny_folder: Path, kept: Path) -> None:
    tts.main(speak(tmp_path, kept))
    expected = soundfile.read(tmp_path / "out.wav", dtype="int16")[0]
    arguments = [*without(speak(tmp_path, kept), "--output"), "--output", "-"]
    wav = process(arguments).stdout
    head = np.frombuffer(wav[:44], np.uint8)
    assert bytes(head[:4]) == b"RIFF"
    np.testing.assert_array_equal(np.frombuffer(wav[44:], "<i2"), expected)
    raw = process([*arguments, "--format", "pcm"]).stdout
    np.testing.assert_array_equal(np.frombuffer(raw, "<i2"), expected)


def test_lines_are_spoken_as_they_come(tiny_folder: Path, kept: Path) -> None:
    """The first line's audio is there while the second has not been written yet."""
    command = [sys.executable, "-m", "mlx_audio_turbo.tts", "-", "--stream", "--model", "tiny"]
    command += ["--voice", str(kept), "--output", "-", "--format", "pcm", "--max_tokens", "20"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdin and child.stdout
        child.stdin.write(b"First line.\n\n")
        child.stdin.flush()
        assert len(child.stdout.read(960)) == 960
        child.stdin.write(b"Second line.\n")
        child.stdin.close()
        assert len(child.stdout.read()) > 2 * 960
    assert child.returncode == 0


def lines(kept: Path, content: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
    arguments = ["-", "--stream", "--model", "tiny", "--voice", str(kept), "--max_tokens", "12"]
    return process([*arguments, "--output", "-", "--format", "pcm", *more], stdin=content)


def test_a_line_that_cannot_be_spoken_is_left_out(tiny_folder: Path, kept: Path) -> None:
    """The others are as they would be after it: it has taken its seed."""
    good = lines(kept, b"First.\nNothing at all.\nBy the by.\nLast.", "--seed", "3", "--quiet")
    assert good.returncode == 0
    second = lines(kept, b"Nothing at all.\n", "--seed", "4").stdout
    third = lines(kept, b"By the by.\n", "--seed", "5").stdout
    content = b"First.\n\n  \xc2\xa0\t\r\n...\n\xf0\x9f Caf\xe9\nLast."
    done = lines(kept, content, "--seed", "3")
    assert done.returncode == 0
    assert done.stdout == good.stdout.replace(second + third, b"")
    said = [line for line in done.stderr.decode().splitlines() if "left out" in line]
    assert said == [
        "line 4 is left out: the text has no letter or digit; give at least one word to say",
        "line 5 is left out: it is not UTF-8 text (at byte 0); save it as UTF-8",
    ]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("content", [b"", b"\n \n", b"...\n"])
def test_no_line_can_be_spoken(
    content: bytes, tmp_path: Path, tiny_folder: Path, kept: Path
) -> None:
    done = lines(kept, content, "--output", str(tmp_path / "out.wav"), "--format", "wav", "--quiet")
    assert done.returncode == 2
    assert b"standard input has no line to speak" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*out*"))


def test_streamed_to_a_file(
    tmp_path: Path, tiny_folder: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tts.main(speak(tmp_path, kept, "--stream", "--json", "--no_trim")) == 0
    told = json.loads(capsys.readouterr().out)
    assert soundfile.info(tmp_path / "out.wav").frames == 960 * 15
    assert told["duration"] == 0.6
    assert told["first_audio"] > 0


def test_a_stream_tells_tokens_segments_and_notes(
    tmp_path: Path, tiny_folder: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = speak(tmp_path, kept, "--stream", "--json", "--quiet", text=LONG[:700])
    assert tts.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["segments"] == len(split_text(LONG[:700])) > 1
    assert told["tokens"] == 12 * told["segments"]
    assert all("limit of 12 tokens" in note for note in told["notes"])
    assert len(told["notes"]) == told["segments"]


def test_an_option_of_another_model_is_refused_by_its_name(
    tmp_path: Path,
    tiny_folder: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All models' options are offered; the folder says which model it is."""
    monkeypatch.setattr("mlx_audio_turbo.__all__", ["ChatterboxTurbo", "Chatterbox"])
    for option in ("exaggeration", "cfg_weight", "min_p"):
        assert tts.main(speak(tmp_path, kept, f"--{option}", "0.5")) == 2
        err = capsys.readouterr().err
        assert f"{option} is not an option here" in err and "Chatterbox" in err
    assert not (tmp_path / "out.wav").exists()


def test_json(
    tmp_path: Path, tiny_folder: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tts.main(speak(tmp_path, kept, "--json", "--quiet")) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == ""
    assert told["path"] == str(tmp_path / "out.wav")
    assert told["tokens"] == 12
    assert told["seed"] == 3
    assert told["segments"] == 1
    assert {"loading", "tokens", "audio"} <= set(told["seconds"])
    assert told["duration"] == soundfile.info(told["path"]).duration


def test_quiet_and_verbose(
    tmp_path: Path, tiny_folder: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tts.main(speak(tmp_path, kept, "--quiet")) == 0
    assert capsys.readouterr() == ("", "")
    assert tts.main(speak(tmp_path, kept, "--verbose")) == 0
    err = capsys.readouterr().err
    assert "matrix products" in err
    assert "real-time factor" in err


def test_tags(model, capsys: pytest.CaptureFixture[str]) -> None:
    assert tts.main(["--list-tags"]) == 0
    tags = capsys.readouterr().out.split("\n")[:-1]
    assert sorted(tags) == sorted(model.tags)


def test_no_encoder_runs_for_a_kept_voice(
    tmp_path: Path, tiny_folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("mlx_audio_turbo.models.voice_input.encode", fail)
    assert tts.main(speak(tmp_path, kept)) == 0


def long(tmp_path: Path, kept: Path, *more: str) -> list[str]:
    return speak(tmp_path, kept, "--batch_size", "1", *more, text=LONG)


def test_long_text_is_its_parts(
    model, voice: Voice, tmp_path: Path, tiny_folder: Path, kept: Path
) -> None:
    assert tts.main(long(tmp_path, kept, "--no_trim")) == 0
    written = soundfile.read(tmp_path / "out.wav", dtype="int16")[0]
    speech = model.generate(LONG, voice=voice, seed=3, max_tokens=12, batch_size=1)
    np.testing.assert_array_equal(written, speech.to_int16())
    assert not Journal.place(tmp_path / "out.wav").exists()


def interrupted(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, after: int, *more: str
) -> None:
    """A run that ends as if it were killed after some segments."""
    add = Journal.add

    def add_and_stop(journal: Journal, index: int, speech: object) -> None:
        add(journal, index, speech)  # pyright: ignore[reportArgumentType]
        if len(journal.finished) == after:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", add_and_stop)
        assert tts.main(long(tmp_path, kept, *more)) == 2


def test_resume(
    tmp_path: Path,
    tiny_folder: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out.wav"
    tts.main(long(tmp_path, kept))
    whole = output.read_bytes()
    output.unlink()
    interrupted(tmp_path, kept, monkeypatch, 3)
    total = len(split_text(LONG))
    err = capsys.readouterr().err
    assert f"3 of {total} segments are kept in {Journal.place(output)}" in err
    assert not output.exists()

    # A segment that was cut while it was written is made again.
    third = Journal.place(output) / "00002.flac"
    third.write_bytes(third.read_bytes()[:60])
    # The seed is that of the interrupted run.
    assert tts.main(without(long(tmp_path, kept, "--resume", "--json"), "--seed")) == 0
    out, err = capsys.readouterr()
    assert "1 kept segments are damaged" in err
    assert f"2 of {total} segments are kept; continuing" in err
    assert json.loads(out)["segments"] == total
    assert output.read_bytes() == whole
    assert not Journal.place(output).exists()


def test_interrupted_work_is_not_lost_by_mistake(
    tmp_path: Path,
    tiny_folder: Path,
    kept: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    interrupted(tmp_path, kept, monkeypatch, 2)
    capsys.readouterr()
    assert tts.main(long(tmp_path, kept)) == 2
    assert "--resume continues it" in capsys.readouterr().err
    assert tts.main(long(tmp_path, kept, "--resume", "--temperature", "0.5")) == 2
    assert "another temperature" in capsys.readouterr().err
    assert tts.main(long(tmp_path, kept, "--restart")) == 0
    assert not Journal.place(tmp_path / "out.wav").exists()


def test_a_folder_that_is_not_ours_stays(tmp_path: Path, tiny_folder: Path, kept: Path) -> None:
    place = Journal.place(tmp_path / "out.wav")
    place.mkdir()
    (place / "holiday.txt").write_text("mine")
    assert tts.main(long(tmp_path, kept, "--restart")) == 2
    assert (place / "holiday.txt").read_text() == "mine"


def start_long(tmp_path: Path, kept: Path, text: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A run of many segments, with some of them finished."""
    arguments = speak(tmp_path, kept, "--batch_size", "1", text=text)
    child = subprocess.Popen(
        [sys.executable, "-m", "mlx_audio_turbo.tts", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell ignores SIGINT for what runs in the background, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    place = Journal.place(tmp_path / "out.wav")
    deadline = time.monotonic() + 60
    while not (place / "00001.flac").exists():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return child, place


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, b"interrupted"), (signal.SIGTERM, 143, b"terminated")],
)
def test_signals_end_in_one_line_within_a_second(
    tmp_path: Path, tiny_folder: Path, kept: Path, number: int, code: int, word: bytes
) -> None:
    child, place = start_long(tmp_path, kept, LONG * 8)
    sent = time.monotonic()
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert time.monotonic() - sent < 1
    assert child.returncode == code
    assert out == b""
    last = err.splitlines()[-1]
    assert last.startswith(b"mlx_audio_turbo.tts: " + word)
    assert b"segments are kept in" in last
    assert b"Traceback" not in err
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    assert not (tmp_path / "out.wav").exists()
    assert list(place.glob("*.flac"))


def test_killed_and_resumed(tmp_path: Path, tiny_folder: Path, kept: Path) -> None:
    text = f"{LONG}\n\n{LONG[:300]}"
    child, place = start_long(tmp_path, kept, text)
    child.kill()
    child.communicate()
    finished = len(list(place.glob("*.flac")))
    assert 2 <= finished < len(split_text(text))
    arguments = speak(tmp_path, kept, "--batch_size", "1", text=text)
    done = process([*arguments, "--resume"])
    assert done.returncode == 0, done.stderr
    assert b"segments are kept; continuing" in done.stderr
    resumed = (tmp_path / "out.wav").read_bytes()
    assert tts.main(arguments) == 0
    assert (tmp_path / "out.wav").read_bytes() == resumed


def test_a_closed_pipe_ends_the_command_quietly(tiny_folder: Path, kept: Path) -> None:
    command = [sys.executable, "-m", "mlx_audio_turbo.tts", LONG, "--model", "tiny"]
    command += ["--voice", str(kept), "--output", "-", "--max_tokens", "12", "--stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout and child.stderr
        child.stdout.read(100)
        child.stdout.close()
        err = child.stderr.read()
    assert child.returncode == 141
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("closed", "code"), [("<&- - --quiet", 2), (">&- Hello.", 0), ("2>&- Hello.", 0)]
)
def test_closed_streams(
    closed: str, code: int, tmp_path: Path, tiny_folder: Path, kept: Path
) -> None:
    """As under a supervisor that gives none."""
    arguments = without(speak(tmp_path, kept), "--text")
    line = f'exec "$0" -m mlx_audio_turbo.tts "$@" {closed}'
    done = subprocess.run(["sh", "-c", line, sys.executable, *arguments], capture_output=True)
    assert done.returncode == code
    assert (tmp_path / "out.wav").exists() == (code == 0)
    assert b"unexpected error" not in done.stderr and b"Traceback" not in done.stderr
    assert closed[0] != "2" or done.stdout.startswith(str(tmp_path).encode())


def clips(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    sounds = {
        "short": rng.standard_normal(16_000 * 5) * 0.1,
        "silent": np.zeros(16_000 * 8),
        "constant": np.full(16_000 * 8, 0.5),
        "nan": np.full(16_000 * 8, np.nan),
        "empty": np.zeros(0),
    }
    paths = {}
    for name, samples in sounds.items():
        paths[name] = folder / f"{name}.wav"
        soundfile.write(paths[name], samples, 16_000, subtype="FLOAT")
    paths["text"] = folder / "text.wav"
    paths["text"].write_text("this is no audio")
    paths["absent"] = folder / "absent.wav"
    paths["folder"] = folder
    return paths


@pytest.mark.parametrize(
    "clip", ["short", "silent", "constant", "nan", "empty", "text", "absent", "folder"]
)
def test_bad_clips(
    tmp_path: Path, tiny_folder: Path, kept: Path, clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = without(speak(tmp_path, kept), "--voice")
    refused([*arguments, "--ref_audio", str(clips(tmp_path)[clip])], tmp_path, capsys)


@pytest.mark.parametrize(
    "more",
    [
        ("--text", ""),
        ("--text", "  \n"),
        ("--text", "half \ud800 a pair"),
        ("--model", "no-such-folder"),
        ("--model", "someone/not-there"),
        ("--output", "/no/such/folder/out.wav"),
        ("--output", "out.xyz"),
        ("--output", ""),
        ("--output", "out.wav", "--format", "mp3"),
        ("--output", "-", "--format", "mp3"),
        ("--output", "-", "--json"),
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--top_p", "2"),
        ("--max_tokens", "0"),
        ("--batch_size", "0"),
        ("--seed", "-5"),
        ("--trim_margin", "-1"),
        ("--trim_threshold", "3"),
        ("--sentence_pause", "-1"),
        ("--ref_start", "3"),
        ("--ref_audio", str(CLIP)),
        ("--voice", "nobody"),
        ("--voice", "no/such.safetensors"),
        ("--voice", "\0"),
        ("--file", "no-such-file"),
        ("--stream", "--plot", "x.png"),
        ("--plot", "x.doc"),
        ("--resume", "--restart"),
    ],
)
def test_bad_options(
    tmp_path: Path,
    tiny_folder: Path,
    kept: Path,
    more: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    offline: None,
) -> None:
    refused(speak(tmp_path, kept, *more), tmp_path, capsys)


def test_damaged_folders(
    tmp_path: Path, tiny_folder: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    broken = Path(shutil.copytree(tiny_folder, tmp_path / "broken"))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    refused(speak(tmp_path, kept, "--model", str(broken)), tmp_path, capsys)


def test_files_that_hold_no_text_are_named(
    tmp_path: Path, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    for name in ("latin.txt", "absent.txt", ""):
        arguments = without(speak(tmp_path, kept), "--text")
        refused([*arguments, "--file", str(tmp_path / name)], tmp_path, capsys)


def refused(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on stderr, exit code 2, nothing written."""
    assert tts.main(arguments) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if "not trained" not in line]
    assert out == ""
    assert len(lines) == 1, err
    assert lines[0].startswith("mlx_audio_turbo.tts: ")
    assert not list(folder.glob("*out*"))


def test_usage_errors_exit_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--nonsense"], ["--seed", "x", "hi"], ["hi", "--format", "au"]):
        with pytest.raises(SystemExit) as caught:
            tts.main(arguments)
        assert caught.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    for arguments in ([], ["--text", "x"], ["x", "--text", "y", "--voice", "z"]):
        assert tts.main(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_unexpected_error_is_one_line_too(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("flux")

    monkeypatch.setattr("mlx_audio_turbo.cli.speaking.segments_of", fail)
    assert tts.main(speak(tmp_path, kept)) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "KeyError" in err
    assert tts.main(speak(tmp_path, kept, "--verbose")) == 1
    assert "Traceback" in capsys.readouterr().err


def test_play_uses_the_sound_card(
    tmp_path: Path, tiny_folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is played is what would be written."""
    card = put_in(monkeypatch, Card())
    assert tts.main(speak(tmp_path, kept)) == 0
    written = soundfile.read(tmp_path / "out.wav", dtype="float32")[0]
    (tmp_path / "out.wav").unlink()
    assert tts.main([*without(speak(tmp_path, kept), "--output"), "--play"]) == 0
    assert not (tmp_path / "out.wav").exists()
    np.testing.assert_allclose(np.concatenate(card.played)[: len(written)], written, atol=1e-4)
    assert tts.main(long(tmp_path, kept, "--play")) == 0
    written = soundfile.read(tmp_path / "out.wav", dtype="int16")[0]
    played = to_int16(card.sound())
    np.testing.assert_array_equal(played[played != 0], written[written != 0])


@pytest.mark.parametrize(
    ("extra", "module"), [("--play", "sounddevice"), ("--plot=x.png", "matplotlib.figure")]
)
def test_missing_extras(
    tmp_path: Path,
    kept: Path,
    extra: str,
    module: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    refused(speak(tmp_path, kept, extra), tmp_path, capsys)


def test_plot(tmp_path: Path, tiny_folder: Path, kept: Path) -> None:
    image = tmp_path / "speech.png"
    assert tts.main(speak(tmp_path, kept, "--plot", str(image))) == 0
    assert image.read_bytes().startswith(b"\x89PNG")


def test_bars_go_to_a_terminal_only(
    tmp_path: Path, tiny_folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    assert tts.main(long(tmp_path, kept)) == 0
    assert "speaking:  " in screen.getvalue()
    assert "characters/s" in screen.getvalue()


def test_the_clip_of_a_long_recording(tmp_path: Path, tiny_folder: Path, kept: Path) -> None:
    speech = load_audio(CLIP, sample_rate=24_000)
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate([speech] * 5), 24_000)
    arguments = without(speak(tmp_path, kept), "--voice")
    assert tts.main([*arguments, "--ref_audio", str(path), "--ref_start", "15"]) == 0
