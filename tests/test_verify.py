"""``verify`` passes what ``build`` makes, and names what somebody broke."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo.config import Quantization
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert import verify as verifying
from mlx_audio_turbo_convert.__main__ import main
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic
from mlx_audio_turbo_convert.synthetic import voice as stand_ins
from mlx_audio_turbo_convert.tokenizer import LEGACY_FILES, build_tokenizer

WEIGHTS = "model.safetensors"
Tensors = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("upstream") / "tiny"
    return synthetic.write_checkpoint(place, config=TINY, name="tiny", seed=8)


@pytest.fixture(scope="module")
def made(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("made")
    source = recognise(checkpoint)
    return {
        "fp16": folder.convert(source, place / "fp16", dtype="float16"),
        "4bit": folder.convert(
            source, place / "4bit", dtype="float16", quantization=Quantization(4, 64)
        ),
    }


@pytest.fixture(autouse=True)
def no_speech(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults are found before a word is spoken; speaking takes the longest."""
    if "fault" in request.fixturenames:
        check = verifying.Check("speech")
        monkeypatch.setattr(verifying, "_speech", lambda folder, config: check)


def faults(place: Path, checkpoint: Path) -> list[str]:
    checks = verifying.verify(place, recognise(checkpoint))
    return [fault for check in checks for fault in check.faults]


@pytest.mark.parametrize("kind", ["fp16", "4bit"])
def test_what_build_makes(
    kind: str, made: dict[str, Path], checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(made[kind]), "--source", str(checkpoint)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "FAIL" not in out
    assert [line.split()[:2] for line in out.splitlines()[:-1]] == [
        ["ok", "config.json"],
        ["ok", "tokenizer"],
        ["ok", "header"],
        ["ok", "tensors"],
        ["ok", "size"],
        ["ok", "speech"],
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16", "s3_tokenizer": False},
        {"dtype": "bfloat16", "quantization": Quantization(6, 32)},
        {"dtype": "float32", "quantization": Quantization(8, 64), "s3_tokenizer": False},
    ],
)
def test_other_kinds(options: dict[str, Any], checkpoint: Path, tmp_path: Path) -> None:
    place = folder.convert(recognise(checkpoint), tmp_path / "made", **options)
    assert faults(place, checkpoint) == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_folders_whose_vectors_are_in_half_precision_too(
    dtype: str, checkpoint: Path, tmp_path: Path
) -> None:
    """As earlier versions and other programs write them."""
    whole = folder.convert(recognise(checkpoint), tmp_path / "float32", dtype="float32")
    older = folder.convert(recognise(checkpoint), tmp_path / "older", dtype=dtype)
    tensors = mx.load(str(whole / WEIGHTS))
    assert isinstance(tensors, dict)
    kind = getattr(mx, dtype)
    mx.save_safetensors(str(older / WEIGHTS), {name: x.astype(kind) for name, x in tensors.items()})
    assert faults(older, checkpoint) == []


def weights(change: Callable[[Tensors], object]) -> Callable[[Path], None]:
    def apply(place: Path) -> None:
        tensors = load_file(place / WEIGHTS)
        change(tensors)
        save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, place / WEIGHTS)

    return apply


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(place: Path) -> None:
        values = json.loads((place / "config.json").read_text())
        change(values)
        (place / "config.json").write_text(json.dumps(values))

    return apply


def gates(tensors: Tensors) -> None:
    """i, f, g, o to i, f, o, g."""
    for name in ("ve.lstm.0.Wx", "ve.lstm.0.Wh", "ve.lstm.0.bias"):
        i, f, g, o = np.split(tensors[name], 4)
        tensors[name] = np.concatenate([i, f, o, g])


def swap(one: str, other: str) -> Callable[[Tensors], object]:
    return lambda t: t.update({one: t[other], other: t[one]})


def edit(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    return weights(lambda t: t.update({name: change(t[name])}))


def spoiled(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def spoil(array: np.ndarray) -> np.ndarray:
        array.flat[7] = value
        return array

    return spoil


def truncate(place: Path) -> None:
    path = place / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])


def drop_tag(place: Path) -> None:
    path = place / "tokenizer.json"
    values = json.loads(path.read_text())
    values["added_tokens"] = [t for t in values["added_tokens"] if t["content"] != "[laugh]"]
    path.write_text(json.dumps(values))


ATTENTION = "t3.tfmr.h.1.attn.c_proj.weight"
CONV = "s3gen.flow.estimator.down_conv.weight"
NORM = "s3gen.speaker_encoder.tdnn_norm"

FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "swapped gate order": (weights(gates), "ve.lstm.0.Wx"),
    "transposed projection": (edit(ATTENTION, np.transpose), ATTENTION),
    "dropped bias": (weights(lambda t: t.pop("t3.speech_head.bias")), "t3.speech_head.bias"),
    "zeroed layer": (edit("t3.tfmr.h.2.mlp.c_fc.weight", np.zeros_like), "h.2.mlp.c_fc.weight"),
    "zeroed bias": (edit("s3gen.mel2wav.conv_in.bias", np.zeros_like), "mel2wav.conv_in.bias"),
    "missing tag": (drop_tag, "[laugh]"),
    "truncated file": (truncate, "cut short"),
    "wrong dtype": (edit(CONV, lambda x: x.astype(np.float32)), f"{CONV} is F32"),
    "NaN": (edit("t3.tfmr.wpe.weight", spoiled(np.nan)), "t3.tfmr.wpe.weight has values"),
    "infinity": (edit("s3tokenizer.encoder.conv1.weight", spoiled(np.inf)), "conv1.weight has"),
    "one wrong value": (edit("t3.text_emb.weight", spoiled(0.25)), "t3.text_emb.weight differs"),
    "swapped layers": (
        weights(swap("t3.tfmr.h.0.ln_1.weight", "t3.tfmr.h.1.ln_1.weight")),
        "t3.tfmr.h.0.ln_1.weight",
    ),
    "swapped speakers' norms": (
        weights(swap(f"{NORM}.weight", f"{NORM}.bias")),
        f"{NORM}.weight",
    ),
    "kernel reversed": (edit(CONV, lambda x: x[:, ::-1]), CONV),
    "wrong weight norm": (
        edit("s3gen.mel2wav.ups.0.weight", lambda x: x * np.float16(1.01)),
        "s3gen.mel2wav.ups.0.weight",
    ),
    "another epsilon": (edit(f"{NORM}.weight", lambda x: x * np.float16(0.998)), NORM),
    "stray tensor": (weights(lambda t: t.update(stray=np.ones(2, np.float16))), "stray"),
    "nameless tensor": (weights(lambda t: t.update({"": np.ones(2, np.float16)})), "''"),
    "misshapen tensor": (edit("t3.speech_emb.weight", lambda x: x[:-1]), "t3.speech_emb.weight"),
    "missing network": (
        weights(lambda t: [t.pop(n) for n in list(t) if n.startswith("s3gen.speaker_encoder.")]),
        "s3gen.speaker_encoder",
    ),
    "no weights": (lambda place: (place / WEIGHTS).unlink(), WEIGHTS),
    "wrong number of heads": (
        config(lambda c: c["architecture"]["t3"].update(heads=4)),
        "t3.heads",
    ),
    "wrong size": (config(lambda c: c["architecture"]["t3"].update(layers=2)), "t3.layers"),
    "unknown size": (config(lambda c: c["architecture"].update(x=1)), "unknown x"),
    "wrong family": (config(lambda c: c.update(family="other")), "family"),
    "no config": (lambda place: (place / "config.json").unlink(), "config.json"),
    "claims training": (config(lambda c: c["source"].update(trained=True)), "trained"),
    "another vocabulary": (lambda place: (place / "vocab.json").write_text("{}"), "vocab.json"),
    "no merges": (lambda place: (place / "merges.txt").unlink(), "merges.txt"),
}

QUANTISED: dict[str, tuple[Callable[[Path], object], str]] = {
    "zeroed codes": (edit(ATTENTION, np.zeros_like), ATTENTION),
    "swapped scales": (
        weights(swap("t3.tfmr.h.0.mlp.c_fc.scales", "t3.tfmr.h.1.mlp.c_fc.scales")),
        "t3.tfmr.h.0.mlp.c_fc.weight",
    ),
    "dropped biases": (
        weights(lambda t: t.pop("t3.tfmr.h.0.attn.c_attn.biases")),
        "c_attn.biases is missing",
    ),
    "one wrong code": (edit(ATTENTION, spoiled(0)), ATTENTION),
    "infinite scale": (edit("t3.tfmr.h.0.mlp.c_fc.scales", spoiled(np.inf)), "h.0.mlp.c_fc"),
    "other bits": (config(lambda c: c["quantization"].update(bits=8)), "c_attn.weight is U32"),
    "unknown bits": (config(lambda c: c["quantization"].update(bits=5)), "bits is 5"),
    "no quantisation": (config(lambda c: c.pop("quantization")), "c_attn.weight is U32"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults(
    fault: str, made: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    plant, name = FAULTS[fault]
    place = shutil.copytree(made["fp16"], tmp_path / "made")
    plant(place)
    found = faults(place, checkpoint)
    assert any(name in line for line in found), found
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize("fault", QUANTISED)
def test_planted_faults_in_quantised_folders(
    fault: str, made: dict[str, Path], checkpoint: Path, tmp_path: Path
) -> None:
    plant, name = QUANTISED[fault]
    place = shutil.copytree(made["4bit"], tmp_path / "made")
    plant(place)
    found = faults(place, checkpoint)
    assert any(name in line for line in found), found


def test_a_fault_ends_the_command_with_one(
    made: dict[str, Path], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = shutil.copytree(made["fp16"], tmp_path / "made")
    weights(gates)(place)
    assert main(["verify", str(place), "--source", str(checkpoint)]) == 1
    out = capsys.readouterr().out
    assert "FAIL  tensors" in out and "ve.lstm.0.Wx differs" in out and "NOT what" in out


def test_a_folder_of_unknown_origin_wants_its_source(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(made["fp16"])]) == 2
    assert "--source" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "absent")]) == 2


def test_where_a_folder_came_from(tmp_path: Path) -> None:
    repository = "ResembleAI/chatterbox-turbo"
    values: dict[str, Any] = {"variant": "turbo"}
    values |= {"source": {"repository": repository, "revision": "abc", "trained": True}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert verifying.origin(tmp_path, None) == (repository, "abc", "turbo")
    assert verifying.origin(tmp_path, "here") == ("here", None, "turbo")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelFolderError, match="--source"):
        verifying.origin(tmp_path, None)


def test_verify_takes_another_clip_and_voice(model: Any) -> None:
    voice = model.encode_voice(stand_ins.clip(), sample_rate=24_000)
    other = stand_ins.voice(TINY, family=voice.family)
    for one in (voice, other):
        assert model.generate("Hi.", voice=one, seed=1, max_tokens=5).audio.std() > 1e-4


def test_a_source_with_one_tokenizer_file_and_defaults_of_its_own(
    checkpoint: Path, tmp_path: Path, fault: None
) -> None:
    """Its generation defaults and the noise scale of its flow reach the model folder."""
    place = Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))
    build_tokenizer(place).save(str(place / "tokenizer.json"))
    for name in LEGACY_FILES:
        (place / name).unlink()
    path = place / "config.json"
    values = json.loads(path.read_text())
    del values["rendering"], values["model_type"]
    values |= {"flow_noise_scale": 0.0, "generation": {"temperature": 0.3, "segment_limit": 120}}
    path.write_text(json.dumps(values))
    made = folder.convert(recognise(place), tmp_path / "made", dtype="float16")
    config = load(made).config
    assert config.generation == {"temperature": 0.3, "segment_limit": 120}
    assert config.rendering.noise_scale == 0 and config.rendering.closing_silence == 3
    assert not (made / "vocab.json").exists()
    assert faults(made, place) == []
    path = made / "config.json"
    values = json.loads(path.read_text())
    values["generation"]["temperature"] = 0.8
    path.write_text(json.dumps(values))
    assert any("generation.temperature" in each for each in faults(made, place))


@pytest.fixture
def fault() -> None:
    """Asked for by tests that need no spoken word."""
