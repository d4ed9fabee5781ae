"""Folders that other converters published: every tensor in its place, nothing taken on trust."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import ChatterboxTurbo, DownloadError, ModelFolderError, Voice, VoiceError
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.loading.weights import is_vector
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo.text.tokenizer import TextTokenizer
from mlx_audio_turbo_convert import folder
from mlx_audio_turbo_convert.__main__ import main
from mlx_audio_turbo_convert.published import TURBO_S3GEN
from mlx_audio_turbo_convert.safetensors_writer import Reader
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic
from mlx_audio_turbo_convert.third_party import build as third_party
from mlx_audio_turbo_convert.third_party import recognise as recognition
from mlx_audio_turbo_convert.third_party import s3_tokenizer
from mlx_audio_turbo_convert.third_party.mlx_weights import unpack

from .conftest import CLIP
from .third_party_layouts import write_a, write_b, write_s3_tokenizer

TEXT = "Hello there. [laugh]"
FOLDED = ("s3gen.mel2wav.", "s3gen.speaker_encoder.")
"""What is computed from the source: rounded once more where the source is in half precision."""


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognition, "SIZES", TINY)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("foreign") / "upstream"
    return synthetic.write_checkpoint(place, config=TINY, name="tiny", seed=5)


@pytest.fixture(scope="module")
def standard(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoint through our own converter; vectors are rounded as theirs are, but those
    of the S3 tokenizer, which has a file of its own."""
    place = tmp_path_factory.mktemp("foreign") / "standard"
    weights = folder.convert(recognise(checkpoint), place, dtype="float16") / "model.safetensors"
    tensors = load_file(weights)
    for name, x in tensors.items():
        if not name.startswith("s3tokenizer."):
            tensors[name] = x.astype(np.float16).astype(x.dtype)
    save_file(tensors, weights)
    return place


@pytest.fixture(scope="module")
def published(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout of one checkpoint; read only."""
    place = tmp_path_factory.mktemp("published")
    return {
        "A-fp16": write_a(checkpoint, place / "A-fp16"),
        "A-8bit": write_a(checkpoint, place / "A-8bit", bits=8),
        "A-4bit": write_a(checkpoint, place / "A-4bit", bits=4, campplus=False),
        "B-fp16": write_b(checkpoint, place / "B-fp16"),
        "B-4bit": write_b(checkpoint, place / "B-4bit", bits=4),
    }


Hub = Callable[..., None]


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A Hub that has the S3 tokenizer, or nothing: it notes whether the network is asked."""

    def install(*, has: bool = False, asked: list[bool] | None = None) -> None:
        place = tmp_path / "hub"
        if has and not place.exists():
            write_s3_tokenizer(checkpoint, place)

        def download(repository: str, files: list[str], *, network: bool) -> Path:
            if asked is not None:
                asked.append(network)
            if repository == s3_tokenizer.REPOSITORY and has and network:
                return place
            raise DownloadError("not there")

        monkeypatch.setattr(s3_tokenizer.hub, "download", download)

    install()
    return install


def convert(source: Path, output: Path) -> list[str]:
    found = recognition.recognise(source)
    assert found is not None
    return third_party.convert(found, output, fallback=third_party.find_s3_tokenizer(found))


def expanded(array: np.ndarray, bits: int) -> np.ndarray:
    """What is left of weights that were quantised, in half precision."""
    if array.ndim != 2 or array.shape[-1] % 64:
        return array
    parts = mx.quantize(mx.array(array), group_size=64, bits=bits)
    wide = mx.dequantize(*(part.astype(mx.float32) if i else part for i, part in enumerate(parts)),
                         group_size=64, bits=bits)  # fmt: skip
    return np.array(wide.astype(mx.float16))


def is_quantised(kind: str, name: str) -> bool:
    if "bit" not in kind or not name.endswith(".weight"):
        return False
    if kind.startswith("B"):
        return name.startswith("t3.tfmr.h.")
    # convolutions of kernel 1 became Linear here only
    pointwise = (".residual.", ".final_proj.")
    listens = ("s3gen.speaker_encoder.", "s3tokenizer.")
    return not name.startswith(listens) and not any(part in name for part in pointwise)


@pytest.mark.parametrize("kind", ["A-fp16", "A-8bit", "A-4bit", "B-fp16", "B-4bit"])
def test_every_tensor_arrives(
    kind: str, published: dict[str, Path], standard: Path, tmp_path: Path, hub: Hub
) -> None:
    hub(has=True)
    convert(published[kind], tmp_path / "model")
    wanted = load_file(standard / "model.safetensors")
    made = load_file(tmp_path / "model" / "model.safetensors")
    lacking = {"A-4bit": ("s3gen.speaker_encoder.",)}.get(kind, ("ve.",) if kind[0] == "B" else ())
    wanted = {name: x for name, x in wanted.items() if not name.startswith((*lacking, "-"))}
    assert set(made) == set(wanted)
    for name, array in wanted.items():
        vector = is_vector(name, array.shape)
        assert made[name].dtype == array.dtype == (np.float32 if vector else np.float16)
        expected = expanded(array, int(kind[2])) if is_quantised(kind, name) else array
        if name.startswith(FOLDED):
            np.testing.assert_allclose(made[name], expected, rtol=2e-3, atol=2e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(made[name], expected, err_msg=name)
    assert load(tmp_path / "model").config == TINY


@pytest.mark.parametrize("kind", ["A-fp16", "B-fp16"])
def test_it_says_what_the_standard_folder_says(
    kind: str, published: dict[str, Path], standard: Path, tmp_path: Path, voice: Voice, hub: Hub
) -> None:
    hub(has=True)
    convert(published[kind], tmp_path / "model")
    models = [ChatterboxTurbo.from_pretrained(path) for path in (standard, tmp_path / "model")]
    said = []
    for model in models:
        known = dataclasses.replace(voice, family=load(_folder(model)).family)
        said.append(model.generate(TEXT, voice=known, seed=3, max_tokens=20).tokens)
    np.testing.assert_array_equal(said[0], said[1])
    if kind == "B-fp16":  # without a VoiceEncoder that can be trusted
        return
    first, second = (model.encode_voice(CLIP) for model in models)
    np.testing.assert_array_equal(first.t3_prompt_tokens, second.t3_prompt_tokens)
    np.testing.assert_allclose(first.speaker_embedding, second.speaker_embedding, atol=1e-6)
    np.testing.assert_allclose(first.x_vector, second.x_vector, rtol=0.05, atol=0.05)


def _folder(model: ChatterboxTurbo) -> Path:
    return model._loaded.folder


@pytest.mark.parametrize(
    ("kind", "lacking", "command"),
    [
        ("A-4bit", {"s3gen.speaker_encoder", "s3tokenizer"}, "--model turbo"),
        ("B-fp16", {"ve", "s3tokenizer"}, "--model turbo"),
        ("A-fp16", {"s3tokenizer"}, "mlx-community/S3TokenizerV2 model.safetensors"),
    ],
)
def test_cloning_is_refused_where_a_network_is_lacking(
    kind: str,
    lacking: set[str],
    command: str,
    published: dict[str, Path],
    tmp_path: Path,
    voice: Voice,
    hub: Hub,
) -> None:
    """Folders without CAM++ were once used for cloning all the same, on a random network."""
    notes = convert(published[kind], tmp_path / "model")
    assert any(command in note for note in notes)
    model = ChatterboxTurbo.from_pretrained(tmp_path / "model")
    assert model.notes == tuple(notes)
    loaded = load(tmp_path / "model")
    assert set(loaded.missing) == lacking
    assert hasattr(loaded.networks, "ve") == ("ve" not in lacking)
    with pytest.raises(VoiceError, match=r"hf download|--model turbo") as caught:
        model.encode_voice(CLIP)
    assert "\n" not in str(caught.value)
    ready = dataclasses.replace(voice, family=loaded.family)
    assert model.generate(TEXT, voice=ready, seed=3, max_tokens=6).audio.std() > 0


def test_a_network_that_is_missing_may_not_be_there(
    published: dict[str, Path], tmp_path: Path, hub: Hub
) -> None:
    convert(published["A-4bit"], tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    values = json.loads(path.read_text())
    for missing, message in (({}, "lacks"), ({"ve": "?"}, "ve"), ({"t3": "?"}, "other networks")):
        path.write_text(json.dumps(values | {"missing": missing}))
        with pytest.raises(ModelFolderError, match=message):
            load(tmp_path / "model")


@pytest.mark.parametrize("swapped", [True, False])
def test_the_voice_encoder_of_b_is_not_taken_whatever_it_holds(
    swapped: bool, checkpoint: Path, tmp_path: Path, hub: Hub
) -> None:
    """By where it comes from, not by its numbers."""
    hub(has=True)
    source = write_b(checkpoint, tmp_path / "B", swapped=swapped)
    notes = convert(source, tmp_path / "without")
    assert any("gates" in note for note in notes)
    names = load_file(tmp_path / "without" / "model.safetensors")
    assert not any(name.startswith("ve.") for name in names)


def test_all_layers_quantised_is_said(published: dict[str, Path], tmp_path: Path, hub: Hub) -> None:
    notes = convert(published["A-4bit"], tmp_path / "A")
    assert any("4-bit" in note and "vocoder" in note for note in notes)
    notes = convert(published["B-4bit"], tmp_path / "B")
    assert any("4-bit" in note and "12 layers (T3's blocks)" in note for note in notes)


def test_the_s3_tokenizer_beside_the_folder(
    checkpoint: Path, standard: Path, tmp_path: Path, hub: Hub
) -> None:
    source = write_a(checkpoint, tmp_path / "A")
    write_s3_tokenizer(checkpoint, tmp_path / "S3TokenizerV2")
    notes = convert(source, tmp_path / "model")
    assert any("S3TokenizerV2" in note for note in notes)
    assert not load(tmp_path / "model").missing
    wanted = load_file(standard / "model.safetensors")
    made = load_file(tmp_path / "model" / "model.safetensors")
    names = [name for name in wanted if name.startswith("s3tokenizer.")]
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(made[name], wanted[name], err_msg=name)
    with pytest.raises(ModelFolderError, match="S3 tokenizer alone"):
        resolve(tmp_path / "S3TokenizerV2")


def test_campplus_under_upstream_names(
    checkpoint: Path, published: dict[str, Path], tmp_path: Path, hub: Hub
) -> None:
    """mlx-audio renames CAM++ when it loads, so a file may hold it as upstream wrote it."""
    source = Path(shutil.copytree(published["A-fp16"], tmp_path / "A"))
    path = source / "model.safetensors"
    tensors = {k: v for k, v in load_file(path).items() if "speaker_encoder" not in k}
    original = load_file(checkpoint / TURBO_S3GEN)
    tensors |= {f"s3gen.{k}": v for k, v in original.items() if k.startswith("speaker_encoder.")}
    save_file(tensors, path)
    convert(source, tmp_path / "model")
    whole = folder.convert(recognise(checkpoint), tmp_path / "own", dtype="float16")
    wanted = load_file(whole / "model.safetensors")
    made = load_file(tmp_path / "model" / "model.safetensors")
    for name, array in made.items():
        if name.startswith("s3gen.speaker_encoder."):
            np.testing.assert_array_equal(array, wanted[name], err_msg=name)


@pytest.mark.parametrize(
    ("name", "config", "files", "layout"),
    [
        ("models--mlx-community--chatterbox-turbo-4bit/snapshots/12ab", {"version": "1"}, {}, "A"),
        ("models--mlx-community--Chatterbox-Turbo-TTS-8bit/snapshots/12ab", {}, {}, "B"),
        ("plain", {}, {"vocab.json": ""}, "A"),
        ("plain", {"version": "1.0"}, {"vocab.json": ""}, "B"),
        ("plain", {}, {"vocab.json": "", "README.md": "by mlx-audio-plus"}, "B"),
        ("plain", {}, {}, "B"),
    ],
)
def test_the_layout_is_known_by_its_origin(
    name: str, config: dict, files: dict[str, str], layout: str, tmp_path: Path
) -> None:
    place = tmp_path / name
    place.mkdir(parents=True)
    (place / "model.safetensors").touch()
    (place / "config.json").write_text(json.dumps({"model_type": "chatterbox_turbo"} | config))
    for file, text in files.items():
        (place / file).write_text(text)
    found = recognition.recognise(place)
    assert found is not None and found.layout.name == layout
    assert (found.repository is None) == (name == "plain")
    assert (found.revision or "12ab") == "12ab"


def test_what_is_not_foreign(standard: Path, tmp_path: Path) -> None:
    assert recognition.recognise(standard) is None
    assert resolve(standard) == standard
    assert recognition.recognise(tmp_path) is None
    for text in ("", "[]", "{}", '{"model_type": "llama"}'):
        (tmp_path / "config.json").write_text(text)
        assert recognition.recognise(tmp_path) is None
    (tmp_path / "config.json").write_text('{"model_type": "chatterbox_turbo"}')
    assert recognition.recognise(tmp_path) is None


def test_loading_converts_once(
    published: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    monkeypatch.setenv("MLX_AUDIO_TURBO_CACHE", str(tmp_path / "cache"))
    asked: list[bool] = []
    hub(has=True, asked=asked)
    with pytest.warns(UserWarning, match="gates"):
        first = resolve(published["B-fp16"])
    assert first.is_relative_to(tmp_path / "cache")
    asked.clear()
    assert resolve(published["B-fp16"]) == first
    assert not asked


def test_an_incomplete_folder_is_completed_when_it_can_be(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: Hub
) -> None:
    monkeypatch.setenv("MLX_AUDIO_TURBO_CACHE", str(tmp_path / "cache"))
    source = write_a(checkpoint, tmp_path / "A")
    asked: list[bool] = []
    hub(asked=asked)
    with pytest.warns(UserWarning, match="S3 tokenizer"):
        first = resolve(source)
    assert asked == [False, True]
    asked.clear()
    assert resolve(source) == first
    assert asked == [False]
    write_s3_tokenizer(checkpoint, tmp_path / "S3TokenizerV2")
    with pytest.warns(UserWarning, match="taken from"):
        second = resolve(source)
    assert second != first
    assert load(first).missing and not load(second).missing


def test_tags_keep_their_ids(
    published: dict[str, Path], standard: Path, tmp_path: Path, hub: Hub
) -> None:
    """Layout B lists the tags by the alphabet; loaders number them in that order."""
    convert(published["B-fp16"], tmp_path / "model")
    ours, theirs = (
        TextTokenizer(place, max_tokens=1024) for place in (standard, tmp_path / "model")
    )
    assert ours.tags == theirs.tags
    for tag in ours.tags:
        assert ours.encode(f"So {tag} then.") == theirs.encode(f"So {tag} then.")


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_unpacking(bits: int, group_size: int) -> None:
    weights = np.random.default_rng(bits).standard_normal((5, 384)).astype(np.float32)
    packed, scales, biases = mx.quantize(mx.array(weights), group_size=group_size, bits=bits)
    numbers = unpack(np.array(packed), bits).reshape(5, -1, group_size)
    wide = numbers * np.array(scales)[..., None] + np.array(biases)[..., None]
    expected = mx.dequantize(packed, scales, biases, group_size=group_size, bits=bits)
    np.testing.assert_allclose(wide.reshape(5, 384), np.array(expected), rtol=1e-6, atol=1e-6)


def drop(name: str) -> Callable[[dict, dict], object]:
    return lambda tensors, config: tensors.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("t3.tfmr.h.0.attn.c_attn.biases"), "t3.tfmr.h.0.attn.c_attn.scales and no biases"),
        (drop("t3.tfmr.h.0.attn.c_attn.scales"), "t3.tfmr.h.0.attn.c_attn"),
        (drop("s3gen.encoder.after_norm.bias"), "s3gen.flow.encoder.norm.bias"),
        (lambda t, c: t.update(stray=np.ones(1, np.float16)), "stray"),
        (lambda t, c: c["quantization"].update(bits=8), "not of 8 bits"),
        (lambda t, c: c["quantization"].update(group_size=32), "groups of 32"),
        (lambda t, c: c["quantization"].update(mode="mxfp4"), "mxfp4"),
        (lambda t, c: c.pop("quantization"), "None"),
        (
            lambda t, c: t.update(
                {"t3.tfmr.ln_f.bias": np.full(TINY.t3.width, np.nan, np.float16)},
            ),
            "not finite",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    change: Callable[[dict, dict], object],
    message: str,
    published: dict[str, Path],
    tmp_path: Path,
    hub: Hub,
) -> None:
    source = Path(shutil.copytree(published["A-4bit"], tmp_path / "A"))
    tensors = load_file(source / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    change(tensors, config)
    save_file(tensors, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFolderError) as caught:
        convert(source, tmp_path / "model")
    assert message in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_file_that_mlx_wrote_without_metadata(tmp_path: Path) -> None:
    """Its header says null there, which other readers pass over."""
    mx.save_safetensors(str(tmp_path / "x.safetensors"), {"x": mx.arange(3)})
    reader = Reader(tmp_path / "x.safetensors")
    assert reader.read("x").tolist() == [0, 1, 2] and reader.metadata == {}


def test_a_damaged_s3_tokenizer_is_named(
    published: dict[str, Path], checkpoint: Path, tmp_path: Path, hub: Hub
) -> None:
    hub(has=True)
    path = tmp_path / "hub" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelFolderError, match=r"hf download mlx-community.*--force-download"):
        convert(published["A-fp16"], tmp_path / "model")


@pytest.mark.parametrize(
    ("place", "config", "model"),
    [
        ("models--mlx-community--chatterbox-fp16/snapshots/1", {}, "original"),
        ("models--mlx-community--Chatterbox-TTS-4bit/snapshots/1", {}, "original"),
        ("models--mlx-community--chatterbox-multilingual-8bit/snapshots/1", {}, "multilingual"),
        ("plain", {"model_type": "chatterbox"}, "original"),
        ("plain", {"model_type": "chatterbox_multilingual"}, "multilingual"),
    ],
)
def test_other_forms_of_the_original_are_refused_with_what_to_do(
    place: str, config: dict, model: str, tmp_path: Path
) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").touch()
    with pytest.raises(ModelFolderError, match=rf"--model {model}$"):
        resolve(folder)


def test_the_command(
    published: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], hub: Hub
) -> None:
    hub(has=True)
    output = tmp_path / "model"
    build = ["build", "--source", str(published["B-fp16"]), "--output", str(output)]
    assert main(build) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(output)
    assert "S3 tokenizer is taken from" in err
    assert main(build) == 2
    values = json.loads((output / "config.json").read_text())
    assert set(values["missing"]) == {"ve"} and len(values["notes"]) == 2
