"""What a run writes: never over what it reads, as what stands there, under any name."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mlx_audio_turbo
from mlx_audio_turbo import ChatterboxTurbo, OptionError, TurboError, Voice, VoiceLibrary, tts
from mlx_audio_turbo.audio.files import load_audio, to_int16, write_audio
from mlx_audio_turbo.cli import voices as voices_command
from mlx_audio_turbo.cli.destination import find_destination, write_file
from mlx_audio_turbo.cli.resume import Journal
from mlx_audio_turbo.files.atomic import replacing
from mlx_audio_turbo.files.paths import cache_folder, user_path
from mlx_audio_turbo.voice_library import find, voices_folder
from mlx_audio_turbo_convert import __main__ as convert

from .conftest import CLIP

SOUND = np.sin(np.arange(12_000) / 20).astype(np.float32) / 4
LATIN = os.fsdecode(b"caf\xe9")


@pytest.fixture
def desk(tiny_folder: Path, voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a clip named speech.wav, a voice file, a text, a home."""
    samples, rate = soundfile.read(CLIP)
    soundfile.write(tmp_path / "speech.wav", samples[: 6 * rate], rate)
    voice.save(tmp_path / "v.safetensors")
    (tmp_path / "text.wav").write_text("Hello.")
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLX_AUDIO_TURBO_VOICES", str(tmp_path / "voices"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def speak(*more: str, code: int = 0) -> None:
    given = ["--model", "tiny", "--seed", "1", "--max_tokens", "5", *more]
    if "--file" not in more:
        given += ["--text", "Hello."]
    if not any(each.startswith(("--ref_audio", "--voice")) for each in more):
        given += ["--voice", "./v.safetensors"]
    assert tts.main(given) == code


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        (["--ref_audio", "speech.wav"], "speech.wav"),
        (["--ref_audio", "./speech.wav", "--output", "speech"], "speech.wav"),
        (["--ref_audio", "link.wav", "--output", "speech.wav"], "speech.wav"),
        (["--ref_audio", "speech.wav", "--output", "twin.wav"], "speech.wav"),
        (["--file", "text.wav", "--output", "home/../text.wav"], "text.wav"),
        (["--voice", "./v.wav", "--output", "v.wav"], "v.safetensors"),
        (["--ref_audio", "speech.wav", "--save_voice", "speech.wav", "--output", "o.wav"],
         "speech.wav"),
        (["--model", "model", "--ref_audio", "speech.wav", "--output", "o.wav",
          "--save_voice", "model/model.safetensors"], "model/model.safetensors"),
        (["--file", "text.png", "--plot", "text.png", "--output", "o.wav"], "text.wav"),
    ],
)  # fmt: skip
def test_no_input_is_overwritten(
    more: list[str], kept: str, desk: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.symlink("speech.wav", "link.wav")
    os.link("speech.wav", "twin.wav")
    os.link("v.safetensors", "v.wav")
    os.link("text.wav", "text.png")
    os.symlink(tiny_folder, "model")
    before = (desk / kept).read_bytes()
    speak(*more, code=2)
    assert "would replace" in capsys.readouterr().err
    assert (desk / kept).read_bytes() == before
    assert not (desk / "o.wav").exists()


def test_the_text_on_standard_input_is_not_overwritten(desk: Path) -> None:
    with open("text.wav", "rb") as text:
        done = subprocess.run(
            [sys.executable, "-m", "mlx_audio_turbo.tts", "-", "--output", "text.wav"],
            stdin=text,
            capture_output=True,
        )
    assert done.returncode == 2
    assert b"the file on standard input" in done.stderr
    assert (desk / "text.wav").read_text() == "Hello."


def test_the_one_liner_does_not_overwrite_its_clip(desk: Path) -> None:
    os.symlink("speech.wav", "link.wav")
    before = (desk / "speech.wav").read_bytes()
    for output, error in (
        ("speech.wav", "is the clip"),
        ("link.wav", "is the clip"),
        ("a/b.wav", "there is no folder"),
    ):
        with pytest.raises(TurboError, match=error):
            mlx_audio_turbo.speak("Hi.", ref_audio="./speech.wav", output=output, model="tiny")
    assert (desk / "speech.wav").read_bytes() == before


def test_two_outputs_are_not_one_file(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("new.wav", "new.png")
    speak("--output", "new.wav", "--plot", "new.png", code=2)
    assert "are the same file" in capsys.readouterr().err


def test_the_library_is_not_copied_over_itself(desk: Path, voice: Voice) -> None:
    saved = VoiceLibrary().add("anna", voice, consent="hers")
    before = saved.path.read_bytes()
    os.symlink(saved.path, "copy.safetensors")
    for arguments in (
        ["export", "anna", str(saved.path)],
        ["export", "anna", "copy.safetensors"],
        ["import", "copy.safetensors", "--name", "anna", "--replace"],
        ["add", "anna", str(saved.path), "--replace", "--model", "tiny"],
    ):
        assert voices_command.main(arguments) == 2
    assert saved.path.read_bytes() == before


def test_the_converter_does_not_replace_what_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in" / "checkpoint"
    arguments = ["synthetic", "--size", "tiny", "--output", str(source)]
    assert convert.main(arguments) == 0
    os.symlink("in", tmp_path / "link")
    before = sorted(path.name for path in source.iterdir())
    for output in (source, tmp_path / "in", tmp_path / "link", tmp_path / "link/checkpoint"):
        assert convert.main(["build", f"--source={source}", f"--output={output}", "--force"]) == 2
        assert "which is read" in capsys.readouterr().err
    assert convert.main([*arguments, "--tokenizer", str(source), "--force"]) == 2
    assert sorted(path.name for path in source.iterdir()) == before


def test_a_pipe_gets_the_audio(desk: Path) -> None:
    speak("--output", "plain.wav")
    expected = soundfile.read("plain.wav", dtype="int16")[0].tobytes()
    for name, more in (
        ("pipe.wav", ()),
        ("pipe", ()),
        ("pcm", ("--format", "pcm")),
        ("p.flac", ()),
    ):
        os.mkfifo(name)
        received: list[bytes] = []
        reader = threading.Thread(
            target=lambda name=name, received=received: received.append(Path(name).read_bytes())
        )
        reader.start()
        speak("--output", name, *more)
        reader.join(20)
        assert stat.S_ISFIFO(os.stat(name).st_mode)
        start = {"pcm": b"", "p.flac": b"fLaC"}.get(name, b"RIFF")
        assert received[0].startswith(start)
        if name != "p.flac":
            assert received[0].endswith(expected)


def test_devices(desk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    speak("--output", os.devnull)
    assert os.devnull in capfd.readouterr().out
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    for name in ("/dev/stdout", "/dev/fd/1"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mlx_audio_turbo.tts", "Hello.", "--output", name),
                *("--model", "tiny", "--voice", "./v.safetensors", "--seed", "1"),
                *("--max_tokens", "5"),
            ],
            capture_output=True,
        )
        assert done.returncode == 0
        assert done.stdout.startswith(b"RIFF")
        assert b"seed 1" not in done.stdout
    assert not Path("/dev/stdout.wav").exists()
    with open("opened", "wb") as file:
        speak("--output", f"/dev/fd/{file.fileno()}")
    assert Path("opened").read_bytes().startswith(b"RIFF")
    speak("--ref_audio", "speech.wav", "--save_voice", os.devnull, "--output", "o.wav")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert not Path(f"{os.devnull}.safetensors").exists()


def test_what_cannot_be_written_to_is_refused_before_loading(
    desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ChatterboxTurbo, "from_pretrained", fail)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        os.symlink("round.wav", "round.wav")
        os.symlink("gone/o.wav", "nowhere.wav")
        for more, said in (
            (["--output", "socket"], "it is a socket"),
            (["--output", "round.wav"], "links"),
            (["--output", "nowhere.wav"], "there is no folder"),
            (["--output", "x" * 252 + ".wav"], "File name too long"),
            (["--output", "\udc80\ud800.wav"], "cannot be the name of a file"),
            (["--ref_audio", str(CLIP), "--save_voice", "no/such/a.safetensors"], "no folder"),
            (["--ref_audio", str(CLIP), "--save_voice", "x" * 300], "File name too long"),
            (["--plot", "no/such.png"], "there is no folder"),
            (["--ref_audio", "x" * 300], "File name too long"),
        ):
            speak(*more, code=2)
            assert said in capsys.readouterr().err
    (desk / "voices").write_text("a file where the library would be")
    assert voices_command.main(["add", "anna", str(CLIP), "--model", "tiny"]) == 2
    assert "MLX_AUDIO_TURBO_VOICES" in capsys.readouterr().err


def test_links_are_followed_and_modes_kept(desk: Path) -> None:
    (desk / "disk").mkdir()
    for name, target in (("link.wav", "disk/real.wav"), ("dangling.wav", "disk/new.wav")):
        os.symlink(target, name)
    (desk / "disk/real.wav").write_text("old")
    os.chmod("disk/real.wav", 0o640)
    speak("--output", "link.wav")
    speak("--output", "dangling.wav")
    assert os.readlink("link.wav") == "disk/real.wav"
    assert soundfile.info("disk/real.wav").frames == soundfile.info("disk/new.wav").frames
    assert stat.S_IMODE(os.stat("disk/real.wav").st_mode) == 0o640
    for path in (desk / "mine.wav", desk / "v.safetensors", desk / "mine.flac"):
        path.touch()
        path.chmod(0o600)
        with replacing(path) as part:
            part.write_bytes(b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(desk.rglob(".*"))


def test_names_that_are_nearly_too_long(desk: Path) -> None:
    text = "A sentence to be said here, and so on and on, until the line is full.\n\n" * 5
    (desk / "book.txt").write_text(text)
    for name in ("x" * 251 + ".wav", "é" * 125 + ".flac", "话" * 83 + ".wav"):
        speak("--file", "book.txt", "--output", name)
        assert (desk / name).is_file()
        assert Journal.place(desk / name) != Journal.place(desk / f"{name[:-5]}y{name[-4:]}")
    long = desk / ("t" * 251 + ".txt")
    long.write_text("Hello.")
    (desk / "out").mkdir()
    for _ in range(2):
        speak("--file", str(long), "--output", "out/", "--format", "flac")
    assert len(list((desk / "out").iterdir())) == 2


def test_names_in_any_bytes(
    desk: Path, tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # pytest-xdist cannot report such a name, which a warning of a short clip holds.
    caplog.set_level(logging.ERROR, "mlx_audio_turbo")
    os.rename("speech.wav", f"{LATIN}-clip.wav")
    os.symlink(tiny_folder, f"{LATIN}-model")
    (desk / f"{LATIN}.txt").write_text("Hello.")
    speak("--output", f"{LATIN}.wav", "--file", f"{LATIN}.txt", "--plot", f"{LATIN}.png")
    speak("--ref_audio", f"{LATIN}-clip.wav", "--model", f"{LATIN}-model",
          "--save_voice", LATIN, "--output", "o.wav")  # fmt: skip
    speak("--voice", f"./{LATIN}", "--output", f"{LATIN}.mp3")
    for suffix in (".wav", ".mp3", ".png", ".safetensors"):
        assert (desk / f"{LATIN}{suffix}").stat().st_size
    assert voices_command.main(["add", "anna", f"{LATIN}-clip.wav", "--model", "tiny"]) == 0
    assert VoiceLibrary().get("anna").clip == "caf\\udce9-clip.wav"


def test_a_result_is_told_whatever_the_terminal_shows(desk: Path, voice: Voice) -> None:
    VoiceLibrary().add("Zoë", voice, consent="шум")
    for command, told in (
        (["tts", "Hello.", "--output", "шум.wav"], b"\\u0448"),
        (["voices", "list"], b"Zo\\xeb"),
        (["voices", "show", "Zoë"], b"\\u0448"),
        (["tts", "Hello.", "--output", f"{LATIN}.wav"], b"caf\\udce9"),
    ):
        if command[0] == "tts":
            command += ["--model", "tiny", "--voice", "./v.safetensors", "--max_tokens", "5"]
        done = subprocess.run(
            [sys.executable, "-m", f"mlx_audio_turbo.{command[0]}", *command[1:]],
            capture_output=True,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
        )
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
    assert (desk / "шум.wav").is_file()


def test_a_text_in_utf8_is_read_in_a_locale_of_ascii(desk: Path) -> None:
    plain = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mlx_audio_turbo.tts", "Grüße, café."),
            *("--output", "grüße.wav", "--model", "tiny", "--voice", "./v.safetensors"),
            *("--max_tokens", "5"),
        ],
        capture_output=True,
        env=os.environ | plain,
    )
    assert done.returncode == 0, done.stderr
    assert (desk / "grüße.wav").is_file()


def test_a_voice_that_was_saved_is_found_again(
    desk: Path, voice: Voice, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Voice(**{**vars(voice), "x_vector": voice.x_vector + 1})
    for name, asked in (
        ("anna", ("anna", "./anna", "anna.safetensors")),
        ("ben.pt", ("ben.pt", "./ben.pt")),
        (str(desk / "eva"), (str(desk / "eva"), "eva")),
    ):
        speak("--ref_audio", "speech.wav", "--save_voice", name, "--output", "o.wav")
        for each in asked:
            assert find(each).voice.family == voice.family
        speak("--voice", name, "--output", "o.wav")
    # A name of the library stays one.
    VoiceLibrary().add("anna", other)
    assert find("anna").voice == other
    assert find("./anna").voice != other
    assert voices_command.main(["import", "./eva"]) == 0
    assert "eva" in VoiceLibrary().names()


def test_names_are_one_in_every_form(desk: Path, voice: Voice) -> None:
    library = VoiceLibrary()
    library.add("Jos\u00e9", voice)
    for name in ("Jose\u0301", "Jos\u00e9"):
        assert library.get(name).name == "Jos\u00e9"
        with pytest.raises(TurboError, match="already"):
            library.add(name, voice)
    # As a Mac writes the name of the file, and scripts whose letters have marks.
    (desk / "voices/Zoe\u0308.safetensors").write_bytes(library.get("José").path.read_bytes())
    for name in ("हिन्दी", "ภาษาไทย", "می‌خواهم", "नेपाली-2"):
        library.add(name, voice)
        assert library.get(name).voice == voice
    assert library.get("Zo\u00eb").path.name == "Zoe\u0308.safetensors"
    assert "Zo\u00eb" in library.names()
    library.remove("Zoe\u0308")
    for name in ("\u0301a", "a\u2028b", "\u200d", "😀" * 70, "𝒜" * 64):
        with pytest.raises(TurboError, match="no name for a voice"):
            library.add(name, voice)


def test_tilde_is_the_home_everywhere(
    desk: Path, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = desk / "home"
    os.rename("speech.wav", home / "c.wav")
    os.rename("text.wav", home / "t.txt")
    speak("--ref_audio=~/c.wav", "--save_voice=~/s", "--output=~/o.wav", "--plot=~/o.png")
    speak("--file", "~/t.txt", "--voice=~/s", "--output=~/o.wav")
    assert voices_command.main(["add", "anna", "~/c.wav", "--model", "tiny"]) == 0
    assert voices_command.main(["export", "anna", "~/a.safetensors"]) == 0
    assert voices_command.main(["import", "~/a.safetensors", "--name", "ben"]) == 0
    voice.save("~/w.safetensors")
    assert Voice.load("~/w.safetensors") == voice
    write_audio("~/x.wav", SOUND, 24_000)
    assert len(load_audio("~/x.wav", sample_rate=24_000)) == len(SOUND)
    VoiceLibrary("~/library").add("anna", voice)
    for variable, folder in (
        ("MLX_AUDIO_TURBO_CACHE", cache_folder),
        ("MLX_AUDIO_TURBO_VOICES", voices_folder),
    ):
        monkeypatch.setenv(variable, "~/kept")
        assert folder() == home / "kept"
    for name in ("MLX_AUDIO_TURBO_CACHE", "MLX_AUDIO_TURBO_VOICES"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", "~/.cache")
    assert "~" not in str(cache_folder())
    assert {"s.safetensors", "o.wav", "o.png", "x.wav", "library"} <= set(os.listdir(home))
    assert "~" not in os.listdir(desk)
    assert user_path("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")


def test_without_a_home_what_needs_none_works(
    desk: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nobody(_: int) -> object:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    own = ("MLX_AUDIO_TURBO_CACHE", "MLX_AUDIO_TURBO_VOICES")
    for name in ("HOME", *own, "HF_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    speak("--model", str(tiny_folder), "--output", "o.wav")
    speak("--model", str(tiny_folder), "--ref_audio", "speech.wav", "--output", "o.wav")
    capsys.readouterr()
    for run, said in (
        (lambda: tts.main(["Hi.", "--model", "tiny", "--voice", "./v.safetensors"]), "CACHE"),
        (lambda: tts.main(["Hi.", "--model", str(tiny_folder), "--voice", "anna"]), "VOICES"),
        (lambda: tts.main(["Hi.", "--model", "someone/model", "--output", "o.wav"]), "HF_HOME"),
        (lambda: tts.main(["Hi.", "--model", "tiny", "--output", "~/o.wav"]), "HOME"),
        (lambda: voices_command.main(["list"]), "MLX_AUDIO_TURBO_VOICES"),
    ):
        assert run() == 2
        err = capsys.readouterr().err
        assert said in err and len(err.splitlines()) == 1
    for call in (cache_folder, voices_folder, lambda: Voice.load("~/v.safetensors")):
        with pytest.raises(OptionError):
            call()
    assert "~" not in os.listdir(desk)


@pytest.mark.parametrize("name", ["take1.raw", "take1.pcm", "take1.RAW", "take1.gsm", "take1.mp3"])
def test_names_do_not_decide_how_a_clip_is_read(name: str, desk: Path) -> None:
    os.rename("speech.wav", name)
    assert len(load_audio(name, sample_rate=24_000)) > 120_000
    Path(name).write_bytes(to_int16(np.tile(SOUND, 20)).tobytes())
    with pytest.raises(TurboError, match="give a "):
        load_audio(name, sample_rate=24_000)


def test_what_was_spoken_is_kept_under_a_name_that_works(desk: Path) -> None:
    """The place goes away between the check and the end of the work."""

    def turned_into_a_folder(path: Path) -> None:
        path.mkdir()

    def without_its_folder(path: Path) -> None:
        path.parent.rmdir()

    changes: list[Callable[[Path], None]] = [turned_into_a_folder, without_its_folder]
    for change in changes:
        (desk / change.__name__).mkdir()
        path = find_destination(
            f"{change.__name__}/o.wav", format=None, play=False, stem="", resume=False
        ).path
        assert path is not None
        change(path)
        with pytest.raises(TurboError, match="the audio is in") as caught:
            write_file(path, [SOUND])
        kept = Path(str(caught.value).rpartition("the audio is in ")[2])
        assert soundfile.info(kept).frames == len(SOUND)
        kept.unlink()
    (desk / "late.wav").write_text("old")

    def blocks():
        yield SOUND
        (desk / "late.wav").unlink()
        (desk / "late.wav").mkdir()

    with pytest.raises(TurboError, match="the audio is in") as caught:
        write_file(desk / "late.wav", blocks())
    kept = Path(str(caught.value).rpartition("the audio is in ")[2])
    assert soundfile.info(kept).frames == len(SOUND)


def test_an_error_of_the_source_is_not_told_as_one_of_writing(desk: Path) -> None:
    def blocks():
        yield SOUND
        raise OSError(5, "the network disk of the source")

    with pytest.raises(OSError, match="of the source"):
        write_file(desk / "o.wav", blocks())
    assert not (desk / "o.wav").exists()
