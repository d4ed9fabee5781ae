"""The library of voices and its command."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from mlx_audio_turbo import Voice, VoiceError, tts
from mlx_audio_turbo.cli.voices import main
from mlx_audio_turbo.voice_library import VoiceLibrary, find, voices_folder

from .conftest import CLIP


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A library of this test's own."""
    monkeypatch.setenv("MLX_AUDIO_TURBO_VOICES", str(tmp_path / "voices"))
    return tmp_path / "voices"


def test_the_notes_of_a_voice(voice: Voice, folder: Path) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    saved = VoiceLibrary().add("anna", voice, clip=CLIP, consent="Anna, by mail, 3 May")
    assert saved == VoiceLibrary().get("anna")
    assert saved.path == folder / "anna.safetensors"
    assert saved.family == voice.family
    assert saved.clip == CLIP.name
    assert saved.clip_sha256 == hashlib.sha256(CLIP.read_bytes()).hexdigest()
    assert saved.consent == "Anna, by mail, 3 May"
    assert before <= datetime.fromisoformat(saved.created) <= datetime.now(timezone.utc)
    assert saved.voice == voice


def test_find_by_name_or_path(voice: Voice, tmp_path: Path) -> None:
    VoiceLibrary().add("anna", voice)
    path = voice.save(tmp_path / "bob.safetensors")
    assert find("anna").voice == voice
    assert find(str(path)).name == "bob"
    assert find(str(path)).created == ""


def test_names_come_sorted(voice: Voice) -> None:
    library = VoiceLibrary()
    assert library.names() == library.list() == []
    for name in ("zoë", "anna", "Bob-2.b"):
        library.add(name, voice)
    assert library.names() == ["Bob-2.b", "anna", "zoë"]
    assert [saved.name for saved in library.list()] == library.names()


def test_other_files_in_the_folder_are_left_alone(voice: Voice, folder: Path) -> None:
    """Among them names that a shell, completing them, would run."""
    VoiceLibrary().add("anna", voice)
    for name in (".anna.1234", "my voice", "$(exit)", "a;b"):
        (folder / f"{name}.safetensors").touch()
    assert VoiceLibrary().names() == ["anna"]
    assert len(VoiceLibrary().list()) == 1


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "x" * 65, "a\0b"])
def test_impossible_names(voice: Voice, name: str) -> None:
    with pytest.raises(VoiceError, match="no name for a voice"):
        VoiceLibrary().add(name, voice)


def test_a_name_is_taken_once(voice: Voice) -> None:
    library = VoiceLibrary()
    library.add("anna", voice)
    with pytest.raises(VoiceError, match="already"):
        library.add("anna", voice)
    assert library.add("anna", voice, consent="now", replace=True).consent == "now"
    library.remove("anna")
    with pytest.raises(VoiceError, match="no voice 'anna'"):
        library.remove("anna")


def test_a_near_name_is_proposed(voice: Voice) -> None:
    VoiceLibrary().add("anna", voice)
    with pytest.raises(VoiceError, match="did you mean 'anna'"):
        VoiceLibrary().get("ana")


def test_export_and_import_keep_the_notes(voice: Voice, tmp_path: Path) -> None:
    library = VoiceLibrary()
    first = library.add("anna", voice, clip=CLIP, consent="hers")
    path = library.export("anna", tmp_path)
    assert path == tmp_path / "anna.safetensors"
    second = library.import_file(path, name="bob")
    assert dataclasses.replace(second, name="anna", path=first.path) == first
    assert second.voice == voice
    with pytest.raises(VoiceError, match="already"):
        library.import_file(path)


def test_a_damaged_voice_file_is_named(voice: Voice, folder: Path) -> None:
    library = VoiceLibrary()
    saved = library.add("anna", voice)
    saved.path.write_bytes(saved.path.read_bytes()[:100])
    with pytest.raises(VoiceError, match="damaged"):
        library.get("anna")
    blocked = folder.parent / "file"
    blocked.write_text("")
    with pytest.raises(VoiceError, match="MLX_AUDIO_TURBO_VOICES"):
        VoiceLibrary(blocked / "voices").add("anna", voice)


def test_one_damaged_file_does_not_hide_the_others(
    voice: Voice, capsys: pytest.CaptureFixture[str]
) -> None:
    library = VoiceLibrary()
    library.add("anna", voice)
    broken = library.add("broken", voice)
    broken.path.write_bytes(broken.path.read_bytes()[:100])
    assert main(["list"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("anna") and "broken" not in out
    assert "broken.safetensors" in err and err.count("\n") == 1


def test_the_users_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLX_AUDIO_TURBO_VOICES")
    assert voices_folder().parts[-2:] == ("mlx_audio_turbo", "voices")


def test_the_command(
    tiny_folder: Path, voice: Voice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["add", "anna", str(CLIP), "--model", "tiny", "--consent", "hers"]) == 0
    out, err = capsys.readouterr()
    assert Path(out.strip()) == VoiceLibrary().get("anna").path
    assert "not trained" in err
    assert VoiceLibrary().get("anna").voice == voice

    assert main(["list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["name"] == "anna"
    assert main(["list", "--names"]) == 0
    assert capsys.readouterr().out == "anna\n"
    assert main(["list"]) == 0
    assert capsys.readouterr().out.startswith("anna  20")

    assert main(["show", "anna", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["consent"] == "hers"
    assert shown["fingerprint"] == voice.fingerprint

    assert main(["export", "anna", str(tmp_path / "a.safetensors")]) == 0
    assert main(["import", str(tmp_path / "a.safetensors"), "--name", "bob"]) == 0
    assert main(["remove", "anna"]) == 0
    assert VoiceLibrary().names() == ["bob"]

    # The clip is not needed any more, and neither are the networks that hear it.
    arguments = ["Hello there.", "--voice", "bob", "--model", "tiny", "--max_tokens", "12"]
    assert tts.main([*arguments, "--output", str(tmp_path / "out.wav")]) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "no/name", str(CLIP)),
        ("add", "anna", "no-such-clip.wav"),
        ("add", "anna", str(CLIP), "--model", "no-such-folder"),
        ("show", "nobody"),
        ("show", "no/such.safetensors"),
        ("remove", "nobody"),
        ("export", "nobody", "x"),
        ("import", "no-such-file"),
        ("import", str(CLIP)),
    ],
)
def test_one_line_for_mistakes(
    arguments: tuple[str, ...], tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("mlx_audio_turbo.voices: ")
    assert VoiceLibrary().names() == []


def test_a_voice_of_another_family_is_refused_by_name(
    tiny_folder: Path, voice: Voice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    VoiceLibrary().add("anna", dataclasses.replace(voice, family="kokoro"))
    arguments = ["Hello.", "--voice", "anna", "--model", "tiny"]
    assert tts.main([*arguments, "--output", str(tmp_path / "out.wav")]) == 2
    err = capsys.readouterr().err
    assert "'anna' was made for 'kokoro'" in err
    assert not (tmp_path / "out.wav").exists()


def test_as_a_module(voice: Voice) -> None:
    VoiceLibrary().add("anna", voice)
    done = subprocess.run(
        [sys.executable, "-m", "mlx_audio_turbo.voices", "list", "--names"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "anna\n"
