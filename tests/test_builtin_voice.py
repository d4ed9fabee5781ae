"""The built-in voice: read without running anything, left out unless somebody asks."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import ChatterboxTurbo, ModelFolderError, Voice, VoiceError
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import builtin_voice as voices
from mlx_audio_turbo_convert import folder, torch_pickle
from mlx_audio_turbo_convert.__main__ import main
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic

from . import torch_files
from .torch_files import name, number, program, text, tuple_of, write_program

SAVED_BY_TORCH = Path(__file__).parent / "data" / "conds.pt"
TEXT = "Hello there."


def contents(tokens: int = 6, frames: int = 12) -> dict[str, dict[str, np.ndarray | None]]:
    rng = np.random.default_rng(4)
    return {
        "t3": {
            "speaker_emb": rng.random((1, 256), np.float32),
            "clap_emb": None,
            "cond_prompt_speech_tokens": rng.integers(0, 6561, (1, 9)),
            "emotion_adv": np.full((1, 1, 1), 0.5, np.float32),
        },
        "gen": {
            "prompt_token": rng.integers(0, 6561, (1, tokens)),
            "prompt_token_len": np.array([tokens]),
            "prompt_feat": rng.random((1, frames, 80), np.float32),
            "prompt_feat_len": None,
            "embedding": rng.random((1, 192), np.float32),
        },
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("voice") / "upstream"
    synthetic.write_checkpoint(place, config=TINY, name="tiny", seed=5)
    torch_files.write(place / voices.SOURCE, contents())
    return place


@pytest.fixture(scope="module")
def speaking(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with its voice; read only."""
    place = tmp_path_factory.mktemp("voice") / "model"
    source = recognise(checkpoint)
    return folder.convert(source, place, dtype="float32", include_voice=True)


def test_a_file_of_torch() -> None:
    """``tests/data/conds.pt`` is torch's own, with a view into a storage and a transposed one."""
    found = torch_pickle.read(SAVED_BY_TORCH)
    assert set(found) == {"t3", "gen"}
    assert found["t3"]["clap_emb"] is None
    expected = [[1829, 4242, 4735, 4281, 4008, 6215, 3090, 4848, 4690]]
    assert found["t3"]["cond_prompt_speech_tokens"].tolist() == expected
    assert found["gen"]["prompt_feat"].shape == (1, 8, 80)
    assert found["gen"]["prompt_feat"][0, 2, 3] == np.float32(0.4458267092704773)
    assert found["gen"]["embedding"].shape == (1, 192)
    assert found["gen"]["embedding"][0, 5] == np.float32(0.22385114431381226)


def test_conversion(tmp_path: Path) -> None:
    values = contents()
    source = torch_files.write(tmp_path / "conds.pt", values)
    voices.convert_voice(source, tmp_path / "conds.safetensors")
    made = load_file(tmp_path / "conds.safetensors")
    assert set(made) == {
        "t3.speaker_emb",
        "t3.cond_prompt_speech_tokens",
        "gen.prompt_token",
        "gen.prompt_token_len",
        "gen.prompt_feat",
        "gen.embedding",
    }
    for key, array in made.items():
        group, _, leaf = key.partition(".")
        np.testing.assert_array_equal(array, values[group][leaf])
        assert array.dtype in (np.float32, np.int32)
    voices.convert_voice(SAVED_BY_TORCH, tmp_path / "other.safetensors")


def evil(module: str, attribute: str, witness: Path) -> list[bytes]:
    """Pickles that would write ``witness``, in each way that pickle has to call something."""
    command = text(f"touch {witness}")
    wanted = name(module, attribute)
    stacked = text(module) + text(attribute) + b"\x93"
    return [
        wanted + tuple_of(command) + b"R",
        stacked + tuple_of(command) + b"R",
        b"(" + command + f"i{module}\n{attribute}\n".encode(),
        b"(" + wanted + command + b"o",
        wanted + tuple_of(command) + b"\x81",
        b"}" + wanted + b"b",
        # as an innocent entry of what is otherwise a voice
        b"}(" + text("t3") + wanted + tuple_of(command) + b"R" + b"u",
    ]


@pytest.mark.parametrize("kind", range(7))
@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("subprocess", "Popen"),
        ("torch.hub", "load"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ],
)
def test_a_pickle_cannot_run_code(module: str, attribute: str, kind: int, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    body = evil(module, attribute, witness)[kind]
    source = write_program(tmp_path / "conds.pt", program(body))
    with pytest.raises(ModelFolderError) as caught:
        voices.convert_voice(source, tmp_path / "conds.safetensors")
    message = str(caught.value)
    assert f"{module}.{attribute}" in message or "opcode" in message
    assert str(source) in message and "\n" not in message
    assert not witness.exists()
    assert not (tmp_path / "conds.safetensors").exists()


def test_a_pickle_cannot_exhaust_the_machine(tmp_path: Path) -> None:
    """A memo of gigabytes; tuples of tuples that take years to hash; a call within a call."""
    put, get = b"q", b"h"
    nested = (
        b")"
        + put
        + b"\x00"
        + b"".join(
            get + bytes([i]) + get + bytes([i]) + b"\x86" + put + bytes([i + 1]) for i in range(100)
        )
    )
    for body in (
        b"N" + b"r" + struct.pack("<I", 2**31),
        b"}" + get.join([b"", b""]) + nested + b"N" + b"s",
        name("collections", "OrderedDict") + b")R" * 2,
    ):
        source = write_program(tmp_path / "conds.pt", program(body))
        with pytest.raises(ModelFolderError, match="not a plain voice file"):
            torch_pickle.read(source)


def storage(key: str = "0", count: int = 4, kind: str = "FloatStorage") -> bytes:
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), number(count))
    return tuple_of(*parts) + b"Q"


def view(offset: int, shape: tuple[int, ...], strides: tuple[int, ...], kept: bytes) -> bytes:
    places = (tuple_of(*map(number, shape)), tuple_of(*map(number, strides)))
    arguments = tuple_of(kept, number(offset), *places, b"\x89", b"N")
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def test_tensor_views_are_read_with_their_strides(tmp_path: Path) -> None:
    raw = [struct.pack("<4f", 0, 1, 2, 3)]
    for made, expected in (
        (view(1, (3,), (1,), storage()), [1, 2, 3]),
        (view(0, (2, 2), (1, 2), storage()), [[0, 2], [1, 3]]),
        (view(3, (2,), (0,), storage()), [3, 3]),
        (view(2, (), (), storage()), 2),
        (view(9, (0,), (1,), storage()), []),
    ):
        path = write_program(tmp_path / "x.pt", program(made), raw)
        assert torch_pickle.read(path).tolist() == expected


@pytest.mark.parametrize(
    "body",
    [
        view(1, (4,), (1,), storage()),
        view(0, (2, 3), (2, 1), storage()),
        view(-1, (2,), (1,), storage()),
        view(0, (2,), (-1,), storage()),
        view(0, (1 << 22, 1 << 22), (0, 0), storage()),
        view(0, (5_000_000,), (0,), storage()),
        view(0, (1,), (1, 1), storage()),
        view(0, (1,), (1,), b"N"),
        view(0, (4,), (1,), storage(count=5)),
        view(0, (4,), (1,), storage(key="7")),
        view(0, (4,), (1,), storage(key="../data/0")),
        view(0, (4,), (1,), storage(kind="QInt8Storage")),
        name("collections", "OrderedDict") + tuple_of(text("a")) + b"R",
        text("x") + b")R",
        b"}" + tuple_of() + b"N" + b"s",
        b"h\x09",
        b"0",
        b"t",
        b"\x88\x88",
        b"",
    ],
)
def test_inconsistent_files_are_refused(body: bytes, tmp_path: Path) -> None:
    raw = [struct.pack("<4f", 0, 1, 2, 3)]
    path = write_program(tmp_path / "x.pt", program(body), raw)
    with pytest.raises(ModelFolderError, match=r"x\.pt"):
        torch_pickle.read(path)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = SAVED_BY_TORCH.read_bytes()
    path = tmp_path / "conds.pt"
    for broken in (b"", whole[:100], whole[:-200], whole[200:], b"PK\x03\x04", whole[::-1]):
        path.write_bytes(broken)
        with pytest.raises(ModelFolderError, match="again"):
            voices.convert_voice(path, tmp_path / "out")
    with pytest.raises(ModelFolderError, match=r"conds\.pt"):
        torch_pickle.read(tmp_path / "absent" / "conds.pt")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * (64 << 20))
    with pytest.raises(ModelFolderError, match="compressed"):
        torch_pickle.read(path)


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("t3", "speaker_emb", None),
        ("t3", "speaker_emb", np.zeros((1, 255), np.float32)),
        ("t3", "cond_prompt_speech_tokens", np.zeros((1, 9), np.float32)),
        ("gen", "prompt_feat", np.full((1, 12, 80), np.nan, np.float32)),
        ("gen", "embedding", np.zeros((1, 192), np.int32)),
        ("gen", "prompt_token", np.zeros((1, 0), np.int64)),
    ],
)
def test_a_file_without_a_voice_is_named(
    group: str, key: str, value: np.ndarray | None, tmp_path: Path
) -> None:
    values = contents()
    values[group][key] = value
    source = torch_files.write(tmp_path / "conds.pt", values)
    with pytest.raises(ModelFolderError, match=f"{group}.{key}"):
        voices.convert_voice(source, tmp_path / "out")


def test_the_builtin_voice_is_left_out_by_default(checkpoint: Path, tmp_path: Path) -> None:
    folder.convert(recognise(checkpoint), tmp_path / "model", dtype="float32")
    assert not (tmp_path / "model" / voices.TARGET).exists()
    model = ChatterboxTurbo.from_pretrained(tmp_path / "model")
    assert model.builtin_voice is None
    with pytest.raises(VoiceError, match="ref_audio"):
        model.generate(TEXT)


def test_the_builtin_voice_speaks_without_another(speaking: Path, model: ChatterboxTurbo) -> None:
    with_voice = ChatterboxTurbo.from_pretrained(speaking)
    voice = with_voice.builtin_voice
    assert voice is not None and voice.family == load(speaking).family
    values = contents()
    np.testing.assert_array_equal(voice.speaker_embedding, values["t3"]["speaker_emb"][0])  # type: ignore[index]
    np.testing.assert_array_equal(voice.s3gen_prompt_mel, values["gen"]["prompt_feat"][0])  # type: ignore[index]
    first = with_voice.generate(TEXT, seed=1, max_tokens=5)
    second = with_voice.generate(TEXT, seed=1, max_tokens=5, voice=voice)
    np.testing.assert_array_equal(first.audio, second.audio)


@pytest.mark.parametrize(
    ("tokens", "frames", "length", "kept"), [(6, 12, 4, 4), (6, 13, 6, 6), (6, 9, 6, 4)]
)
def test_padding_is_cut(tokens: int, frames: int, length: int, kept: int, tmp_path: Path) -> None:
    values = contents(tokens, frames)
    values["gen"]["prompt_token_len"] = np.array([length])
    source = torch_files.write(tmp_path / "conds.pt", values)
    voices.convert_voice(source, tmp_path / voices.TARGET)
    voice = Voice.load_builtin(tmp_path / voices.TARGET, family="x")
    assert len(voice.s3gen_prompt_tokens) == kept
    assert len(voice.s3gen_prompt_mel) == 2 * kept


def test_a_damaged_builtin_voice_is_named(speaking: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(speaking, tmp_path / "model"))
    path = place / voices.TARGET
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "gen.embedding"}, path)
    with pytest.raises(VoiceError, match=r"gen\.embedding"):
        load(place)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(VoiceError, match="damaged"):
        load(place)


def test_the_command_warns(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    build = ["build", "--source", str(checkpoint), "--output", str(output), "--include-voice"]
    assert main(build) == 0
    assert voices.WARNING in capsys.readouterr().err
    assert (output / voices.TARGET).is_file()
    shutil.copytree(checkpoint, tmp_path / "bare")
    (tmp_path / "bare" / voices.SOURCE).unlink()
    build = ["build", "--source", str(tmp_path / "bare"), "--output", str(tmp_path / "other")]
    assert main([*build, "--include-voice"]) == 2
    assert voices.SOURCE in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert main(build) == 0
    assert json.loads((output / "config.json").read_text())["model_type"] == "chatterbox_turbo"
