"""From an upstream folder to a model folder: everything carried, or nothing written."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo.errors import DownloadError, ModelFolderError, OptionError, TurboError
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.loading.networks import parameter_shapes
from mlx_audio_turbo.presets import TINY, TINY_ORIGINAL
from mlx_audio_turbo_convert import cache, folder, published, rules, source
from mlx_audio_turbo_convert.__main__ import main
from mlx_audio_turbo_convert.mapping import RULES
from mlx_audio_turbo_convert.published import TURBO_S3GEN, VOICE_ENCODER_FILE
from mlx_audio_turbo_convert.safetensors_writer import Reader
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic
from mlx_audio_turbo_convert.synthetic import tiny

T3 = "t3_tiny_v1.safetensors"
S3GEN = TURBO_S3GEN


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("upstream") / "tiny"
    return synthetic.write_checkpoint(place, config=TINY, name="tiny", seed=5)


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


def edit(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refused(checkpoint: Path, *, dtype: str = "float16") -> str:
    """The message of a failed conversion, which must leave nothing behind."""
    output = checkpoint.parent / "output"
    with pytest.raises(TurboError) as caught:
        folder.convert(recognise(checkpoint), output, dtype=dtype)
    assert [path for path in checkpoint.parent.iterdir() if path != checkpoint] == []
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def converted(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("converted") / "float32"
    return folder.convert(recognise(original), place, dtype="float32")


def test_every_upstream_tensor_is_used_or_dropped_for_a_reason() -> None:
    tables = synthetic.tables(TINY, T3).values()
    names = [name for table in tables for name in table]
    plan = rules.plan(RULES[TINY.t3.kind], names)
    used = {source for step in plan.steps for source in step.sources}
    assert used | set(plan.dropped) == set(names)
    assert not used & set(plan.dropped)
    assert {step.target for step in plan.steps} == set(parameter_shapes(TINY))
    endless = ("num_batches_tracked", "self_attn.linear_k.bias")
    kept = {name for name in plan.dropped if not name.endswith(endless)}
    assert kept == {
        "text_head.weight",
        "tfmr.wte.weight",
        "similarity_weight",
        "similarity_bias",
        "tokenizer._mel_filters",
        "tokenizer.window",
    }
    assert all(plan.dropped.values())


def test_the_documentation_names_every_tensor() -> None:
    text = (Path(__file__).parents[1] / "docs" / "weights.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `((?:ve|t3|s3gen|s3tokenizer)\.\S+)`", text, re.MULTILINE))
    names = set(parameter_shapes(TINY)) | set(parameter_shapes(TINY_ORIGINAL))
    found = {
        template: set(filter(rules._pattern(template).fullmatch, names)) for template in documented
    }
    assert set().union(*found.values()) == names
    assert all(found.values())


def test_the_folder_loads_strictly(converted: Path) -> None:
    loaded = load(converted)
    assert loaded.config == TINY
    assert not loaded.trained
    reader = Reader(converted / "model.safetensors")
    assert reader.metadata == {"format": "mlx"}
    prefixes = {name.split(".")[0] for name in reader.tensors}
    assert prefixes == {"ve", "t3", "s3gen", "s3tokenizer"}
    assert {path.name for path in converted.iterdir()} == {
        "README.md",
        "added_tokens.json",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }


def test_what_the_folder_says_of_itself(converted: Path) -> None:
    values = json.loads((converted / "config.json").read_text())
    assert values["model_type"] == "chatterbox_turbo"
    assert values["version"] == "1.0"
    assert values["variant"] == "tiny"
    assert values["dtype"] == "float32"
    assert values["source"] == {"repository": None, "revision": None, "trained": False}
    assert "random" in (converted / "README.md").read_text()
    assert str(Path.home()) not in json.dumps(values)


def test_copies_are_exact_and_moves_are_moves(original: Path, converted: Path) -> None:
    ours, theirs = Reader(converted / "model.safetensors"), Reader(original / T3)
    name = "t3.speech_emb.weight"
    np.testing.assert_array_equal(ours.read(name), theirs.read("speech_emb.weight"))
    # GPT-2 stores (in, out)
    name = "tfmr.h.1.mlp.c_fc.weight"
    np.testing.assert_array_equal(ours.read(f"t3.{name}"), theirs.read(name).T)


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_is_rounded_once(
    original: Path, converted: Path, tmp_path: Path, dtype: str, bits: int
) -> None:
    half = folder.convert(recognise(original), tmp_path / dtype, dtype=dtype)
    whole, short = Reader(converted / "model.safetensors"), Reader(half / "model.safetensors")
    assert json.loads((half / "config.json").read_text())["dtype"] == dtype
    for name in whole.tensors:
        a, b = whole.read(name), short.read(name).astype(np.float32)
        kind, is_t3 = short.tensors[name].dtype, name.startswith("t3.")
        if a.ndim == 1 or name.endswith((".bias_u", ".bias_v")):
            assert kind == "F32"
            np.testing.assert_array_equal(a, b, err_msg=name)
            continue
        assert kind == ("BF16" if dtype == "bfloat16" and is_t3 else "F16"), name
        # half a unit in the last place, and float16's smallest step
        bound = np.abs(a) * 2.0 ** -(bits if is_t3 else 11) + (2.0**-25 if kind == "F16" else 0)
        assert np.all(np.abs(a - b) <= bound), name
    load(half)


def test_a_half_precision_source_converts_too(checkpoint: Path, tmp_path: Path) -> None:
    for name in (T3, S3GEN, VOICE_ENCODER_FILE):
        edit(
            checkpoint / name,
            lambda tensors: tensors.update(
                {
                    key: array.astype(np.float16)
                    for key, array in tensors.items()
                    if array.dtype == np.float32
                }
            ),
        )
    made = folder.convert(recognise(checkpoint), tmp_path / "out", dtype="float32")
    assert load(made).config == TINY


def test_the_same_source_gives_the_same_bytes(
    original: Path, converted: Path, tmp_path: Path
) -> None:
    again = folder.convert(recognise(original), tmp_path / "again", dtype="float32")
    for path in converted.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(checkpoint: Path, value: float) -> None:
    def spoil(tensors: dict[str, np.ndarray]) -> None:
        tensors["flow.encoder.after_norm.bias"][3] = value

    edit(checkpoint / S3GEN, spoil)
    message = refused(checkpoint, dtype="float32")
    assert f"{S3GEN} is damaged: 'flow.encoder.after_norm.bias' has weights" in message
    assert "not finite; download it again" in message


@pytest.mark.parametrize("value", [65_520.0, -1e9])
def test_weights_too_large_for_float16(checkpoint: Path, tmp_path: Path, value: float) -> None:
    def grow(tensors: dict[str, np.ndarray]) -> None:
        tensors["tfmr.wpe.weight"][1, 2] = value

    edit(checkpoint / T3, grow)
    message = refused(checkpoint)
    assert "t3.tfmr.wpe.weight" in message and "float32" in message
    folder.convert(recognise(checkpoint), tmp_path / "wide", dtype="float32")


@pytest.mark.parametrize(
    ("file", "change", "what"),
    [
        (T3, lambda t: t.pop("speech_head.bias"), "t3.speech_head.bias"),
        (T3, lambda t: t.update(stray=np.ones(1, np.float32)), "'stray'"),
        (T3, lambda t: t.update({"": np.ones(1, np.float32)}), "''"),
        (T3, lambda t: t.update({"lstm.bias_hh_l0": t["speech_head.bias"]}), "lstm.bias_hh_l0"),
        (T3, lambda t: t.update({"tfmr.wpe.weight": t["tfmr.wpe.weight"][:9]}), "tfmr.wpe.weight"),
        (
            S3GEN,
            lambda t: t.update({"flow.encoder.up_layer.conv.weight": np.ones(3, np.float32)}),
            "flow.encoder.up_layer.conv.weight",
        ),
        (
            S3GEN,
            lambda t: t.pop("speaker_encoder.head.bn1.running_var"),
            "speaker_encoder.head.bn1.running_var",
        ),
        (
            S3GEN,
            lambda t: t.pop("mel2wav.conv_pre.parametrizations.weight.original0"),
            "mel2wav.conv_pre.parametrizations.weight.original",
        ),
    ],
)
def test_missing_or_unknown_tensors_are_named(
    checkpoint: Path, file: str, change: Callable[[dict[str, np.ndarray]], object], what: str
) -> None:
    edit(checkpoint / file, change)
    assert what in refused(checkpoint)


@pytest.mark.parametrize("file", [T3, S3GEN, VOICE_ENCODER_FILE])
def test_a_truncated_file_is_named(checkpoint: Path, file: str) -> None:
    path = checkpoint / file
    path.write_bytes(path.read_bytes()[:-1000])
    message = refused(checkpoint)
    assert str(path) in message and "cut short" in message


@pytest.mark.parametrize(
    "name",
    [T3, S3GEN, VOICE_ENCODER_FILE, "vocab.json", "merges.txt", "added_tokens.json"],
)
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    message = refused(checkpoint)
    assert name in message or (name == T3 and "no T3 weights" in message)


@pytest.mark.parametrize("text", ["{", '{"architecture": 3}', '{"architecture": {}}', "\xff"])
def test_a_damaged_config_is_named(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_bytes(text.encode("latin-1"))
    assert "config.json" in refused(checkpoint)


def test_official_files_are_known_by_name_and_checked(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    with pytest.raises(ModelFolderError, match="no T3 weights"):
        recognise(checkpoint)
    (checkpoint / T3).rename(checkpoint / "t3_turbo_v1.safetensors")
    with pytest.raises(ModelFolderError, match="is not ResembleAI/chatterbox-turbo"):
        recognise(checkpoint)


def test_two_t3_files_are_one_too_many(checkpoint: Path) -> None:
    shutil.copy(checkpoint / T3, checkpoint / "t3_other.safetensors")
    with pytest.raises(ModelFolderError, match="several T3 weights"):
        recognise(checkpoint)


def test_damaged_downloads_are_named(tmp_path: Path) -> None:
    import hashlib

    content = b"weights"
    blob = hashlib.sha1(b"blob 7\0" + content).hexdigest()
    turbo = published.MODELS["turbo"]
    unknown = published.File("unknown")
    path = tmp_path / turbo.t3.name
    path.write_bytes(content)

    def model(**known: str) -> published.PublishedModel:
        t3 = published.File(path.name, 7, **known)
        return dataclasses.replace(
            turbo, t3=t3, s3gen=unknown, voice_encoder=unknown, tokenizer=(unknown,)
        )

    published.check_files(tmp_path, model(blob=blob), remedy=lambda name: "again")
    with pytest.raises(ModelFolderError, match="git blob differs\\); again"):
        published.check_files(tmp_path, model(blob="0" * 40), remedy=lambda name: "again")
    repository = model(sha256=hashlib.sha256(content).hexdigest())
    published.check_files(tmp_path, repository, remedy=lambda name: "again")
    path.write_bytes(b"wejghts")
    with pytest.raises(ModelFolderError, match="SHA-256 differs\\); again"):
        published.check_files(tmp_path, repository, remedy=lambda name: "again")
    path.write_bytes(b"weight")
    with pytest.raises(ModelFolderError, match="has 6 bytes, not 7; again"):
        published.check_files(tmp_path, repository, remedy=lambda name: "again")


@pytest.mark.parametrize("variant", published.MODELS)
def test_the_published_files_have_sizes_and_sums(variant: str) -> None:
    model = published.MODELS[variant]
    assert published.find(variant) is model
    for file in (model.t3, model.s3gen, model.voice_encoder, model.voice):
        assert variant == "nano" or (len(file.sha256 or "") == 64 and file.size)
    assert len(model.files) == 3 + len(model.tokenizer)
    if model.family == "chatterbox":
        assert all(file.size and (file.sha256 or file.blob) for file in model.tokenizer)


def test_no_network_gives_one_line(offline: None) -> None:
    with pytest.raises(DownloadError) as caught:
        source.resolve("ResembleAI/chatterbox-nano")
    assert "ResembleAI/chatterbox-nano" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_dtype_is_refused(original: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="float32, float16, bfloat16"):
        folder.convert(recognise(original), tmp_path / "out", dtype="int8")


def test_only_force_replaces_and_only_model_folders(original: Path, tmp_path: Path) -> None:
    source, output = recognise(original), tmp_path / "out"
    output.mkdir()
    precious = output / "precious"
    precious.touch()
    for force in (False, True):
        with pytest.raises(ModelFolderError, match="choose another place"):
            folder.convert(source, output, dtype="float16", force=force)
    precious.rename(output / "config.json")
    with pytest.raises(ModelFolderError, match="--force"):
        folder.convert(source, output, dtype="float16")
    folder.convert(source, output, dtype="float16", force=True)
    assert load(output).config == TINY
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupt_leaves_no_folder(original: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    source = recognise(original)
    with pytest.raises(KeyboardInterrupt):
        folder.convert(source, tmp_path / "out", dtype="float16", progress=stop)
    assert not list(tmp_path.iterdir())


def test_tiny_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny.ensure(tmp_path)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert tiny.ensure(tmp_path) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    monkeypatch.setattr(synthetic, "RECIPE_VERSION", -1)
    assert tiny.ensure(tmp_path) != first


def test_two_processes_may_make_the_same_folder(tmp_path: Path) -> None:
    """The second comes too late and takes what the first made."""

    def other_first() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "config.json").touch()
        raise ModelFolderError("exists")

    cache.make_once(tmp_path / "out", other_first)

    def full_disk() -> None:
        raise ModelFolderError("no space")

    with pytest.raises(ModelFolderError, match="no space"):
        cache.make_once(tmp_path / "other", full_disk)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, output = tmp_path / "checkpoint", tmp_path / "model"
    assert main(["synthetic", "--size", "tiny", "--output", str(checkpoint), "--seed", "9"]) == 0
    build = ["build", "--source", str(checkpoint), "--output", str(output)]
    assert main([*build, "--dtype", "float32"]) == 0
    out, err = capsys.readouterr()
    assert out.split() == [str(checkpoint), str(output)]
    assert err == ""
    assert main(build) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and str(output) in err
    assert main([*build, "--force"]) == 0
    assert json.loads((output / "config.json").read_text())["dtype"] == "float16"


def test_the_command_names_its_output(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["build", "--source", str(original)]) == 0
    assert load(tmp_path / "Chatterbox-Tiny-TTS-fp16").config == TINY


def test_the_command_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlx_audio_turbo_convert", "build", "--source", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "no T3 weights" in run.stderr and run.stderr.count("\n") == 1
