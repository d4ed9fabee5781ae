"""The original and multilingual checkpoints become model folders, with nothing lost."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import ops, presets
from mlx_audio_turbo.config import STOP_SPEECH, ModelConfig, Quantization
from mlx_audio_turbo.config.quantization import T3_BLOCKS
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.loading import hub
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.loading.networks import make_t3, parameter_shapes
from mlx_audio_turbo.ops import compiled
from mlx_audio_turbo.ops.compiled import runtime
from mlx_audio_turbo_convert import compare, folder, published, rules, source, tokenizer, verify
from mlx_audio_turbo_convert.mapping import RULES
from mlx_audio_turbo_convert.safetensors_writer import Reader, Tensor, size
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic
from mlx_audio_turbo_convert.synthetic import shapes
from mlx_audio_turbo_convert.synthetic import voice as stand_ins

KINDS = {
    "tiny-original": (presets.ORIGINAL_TYPE, presets.TINY_ORIGINAL),
    "tiny-multilingual": (presets.MULTILINGUAL_TYPE, presets.TINY_MULTILINGUAL),
}
COMMIT = "5bb1f6ee58e50c3b8d408bc82a6d3740c2db6e18"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("upstream")
    return {
        name: synthetic.write_checkpoint(
            place / name, config=config, name=name, model_type=model_type, seed=4
        )
        for name, (model_type, config) in KINDS.items()
    }


@pytest.fixture(scope="module")
def converted(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("converted")
    return {
        name: folder.convert(source.recognise(path), place / name, dtype="float32")
        for name, path in checkpoints.items()
    }


@pytest.mark.parametrize(
    ("table", "count", "file_bytes", "listing"),
    [
        (
            shapes.t3(presets.ORIGINAL.t3),
            292,
            2_129_653_744,
            "d053f4d3926c70b76aede51b455fafe64aafdac5a58d8e51e7bffc90a5af526c",
        ),
        (
            shapes.t3(presets.MULTILINGUAL.t3),
            292,
            2_143_989_752,
            "f9467892005cf06efa8258bda14cc10ae1095f1e7a683c27cdbfa615ba0115e2",
        ),
        (
            shapes.s3gen(presets.ORIGINAL),
            2489,
            1_056_484_620,
            "8210ef5e2c250a2269e9cd6c0a3e920f2143c1d1a5e314ffecafb908da3e686a",
        ),
    ],
    ids=["t3_cfg", "t3_mtl", "s3gen"],
)
def test_full_size_tables_are_the_published_ones(
    table: dict[str, Tensor], count: int, file_bytes: int, listing: str
) -> None:
    """The SHA-256 is that of the reference's names, dtypes and shapes."""
    assert len(table) == count
    assert size(table) == file_bytes
    lines = [f"{name} {table[name].dtype} {[*table[name].shape]}" for name in sorted(table)]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == listing


@pytest.mark.parametrize(
    "config", [presets.ORIGINAL, presets.MULTILINGUAL_V3, presets.TINY_ORIGINAL]
)
def test_every_upstream_tensor_is_used_or_dropped_for_a_reason(config: ModelConfig) -> None:
    tables = synthetic.tables(config, "t3").values()
    found = {name: tensor.shape for table in tables for name, tensor in table.items()}
    plan = rules.plan(RULES[config.t3.kind], found)
    assert {step.target for step in plan.steps} == set(parameter_shapes(config))
    rules.check_shapes(plan, found, parameter_shapes(config))
    endless = ("num_batches_tracked", "self_attn.linear_k.bias")
    assert {name for name in plan.dropped if not name.endswith(endless)} == {
        "text_head.weight",
        "tfmr.embed_tokens.weight",
        "similarity_weight",
        "similarity_bias",
        "tokenizer._mel_filters",
    }


def test_a_file_with_the_computed_window_converts_too(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    """The reference's class has it, its published safetensors has not; v3's has no filters."""
    place = Path(shutil.copytree(checkpoints["tiny-original"], tmp_path / "checkpoint"))
    path = place / published.ORIGINAL_S3GEN
    tensors = load_file(path)
    tensors["tokenizer.window"] = np.hanning(401)[:-1].astype(np.float32)
    del tensors["tokenizer._mel_filters"]
    save_file(tensors, path)
    folder.convert(source.recognise(place), tmp_path / "out", dtype="float16")


@pytest.mark.parametrize("name", KINDS)
def test_the_folder_loads_strictly_and_says_what_it_is(
    name: str, converted: dict[str, Path], checkpoints: dict[str, Path]
) -> None:
    loaded = load(converted[name])
    model_type, config = KINDS[name]
    assert (loaded.model_type, loaded.config) == (model_type, config)
    assert loaded.config.generation["cfg_weight"] == 0.5
    ours = Reader(converted[name] / "model.safetensors")
    theirs = Reader(next(checkpoints[name].glob("t3_*.safetensors")))
    kept = set(theirs.tensors) - {"text_head.weight", "tfmr.embed_tokens.weight"}
    assert {f"t3.{each}" for each in kept} == {x for x in ours.tensors if x.startswith("t3.")}
    for each in kept:
        np.testing.assert_array_equal(ours.read(f"t3.{each}"), theirs.read(each))
    assert not any("time_mixer" in each for each in ours.tensors)
    assert loaded.tokenizer.encode("hello there")
    files = {path.name for path in converted[name].iterdir()}
    assert (tokenizer.CANGJIE_FILE in files) == (name == "tiny-multilingual")
    assert "vocab.json" not in files


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("bits", [None, 8, 4])
def test_verify_passes_what_build_makes(
    name: str, bits: int | None, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    found = source.recognise(checkpoints[name])
    blocks = (T3_BLOCKS["original"],)
    place = folder.convert(
        found,
        tmp_path / name,
        dtype="bfloat16" if bits is None else "float16",
        quantization=Quantization(bits, 64, blocks) if bits else None,
    )
    loaded = load(place, dtype=mx.float32)
    assert loaded.quantization == (Quantization(bits, 64, blocks) if bits else None)
    layers = {x.rpartition(".")[0] for x in Reader(place / "model.safetensors").tensors
              if x.endswith(".scales")}  # fmt: skip
    assert len(layers) == (7 * loaded.config.t3.layers if bits else 0)
    assert all(layer.startswith(blocks[0]) for layer in layers)
    checks = {check.name: check for check in verify.verify(place, found)}
    for each in ("config.json", "tokenizer", "header", "tensors"):
        assert checks[each].faults == []


@pytest.mark.skipif(ops.on_gpu() or not compiled.available(), reason="no compiled kernels")
@pytest.mark.parametrize("bits", [None, 8])
def test_compiled_kernels_read_what_is_stored(
    bits: int | None, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the weights expanded to float32 give, which a machine without kernels computes with."""
    place = folder.convert(
        source.recognise(checkpoints["tiny-original"]),
        tmp_path / "model",
        dtype="float16",
        quantization=Quantization(bits, 64, (T3_BLOCKS["original"],)) if bits else None,
    )
    loaded = load(place)
    monkeypatch.setattr(runtime, "reason", lambda: "no numba here")
    models = [loaded.networks.t3, load(place).networks.t3]
    monkeypatch.undo()
    assert not loaded.expanded
    assert models[0].speech_head.weight.dtype == mx.float16
    assert models[0].tfmr.norm.weight.dtype == mx.float32
    assert isinstance(models[0].tfmr.layers[1].mlp.up_proj, nn.QuantizedLinear) == bool(bits)
    assert models[1].speech_head.weight.dtype == models[1].text_emb.weight.dtype == mx.float32
    found = []
    for model in models:
        form, cache = model.make_forward(), model.make_cache()
        form(model.embed_input(mx.array([5, 17, 30]), 2), cache, [0, 0])
        x = model.embed_speech(mx.array([[7]]), mx.array([[1]]))
        found.append(np.array(form(mx.repeat(x, 2, axis=0), cache, [cache.offset] * 2)))
    assert type(models[0].make_forward()).__name__ == "CompiledForward"
    assert np.linalg.norm(found[0] - found[1]) < 1e-5 * np.linalg.norm(found[1])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("tiny-original", ("import Chatterbox\n", "exaggeration=0.7", "language:\n- en\n")),
        ("tiny-multilingual", ("import ChatterboxMultilingual\n", 'language="fr"', "- zh\n")),
    ],
)
def test_the_card_shows_the_use_of_this_model(
    name: str, wanted: tuple[str, ...], converted: dict[str, Path]
) -> None:
    text = (converted[name] / "README.md").read_text("utf-8")
    assert all(each in text for each in wanted)
    assert "more than 5 seconds" not in text and "Turbo" not in text


def test_verify_names_a_changed_tensor(
    converted: dict[str, Path], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    place = Path(shutil.copytree(converted["tiny-original"], tmp_path / "model"))
    tensors = load_file(place / "model.safetensors")
    name = "t3.cond_enc.perceiver.attn.to_k.weight"
    tensors[name][0, 0] += 1
    save_file(tensors, place / "model.safetensors")
    (place / "tokenizer.json").write_text(
        (place / "tokenizer.json").read_text().replace('"hé"', '"h"').replace('"a"', '"@@"')
    )
    found = source.recognise(checkpoints["tiny-original"])
    faults = [fault for check in verify.verify(place, found) for fault in check.faults]
    assert any(name in fault for fault in faults)
    assert any("tokenizer.json" in fault for fault in faults)


def test_compare_reads_them(converted: dict[str, Path], checkpoints: dict[str, Path],
                            tmp_path: Path) -> None:  # fmt: skip
    place = folder.convert(
        source.recognise(checkpoints["tiny-original"]),
        tmp_path / "4bit",
        dtype="float16",
        quantization=Quantization(4, 64, (T3_BLOCKS["original"],)),
    )
    rows = list(compare.compare([converted["tiny-original"], place], tokens=8))
    assert rows[0].divergence == 0 and rows[1].divergence > 0


def hidden(t3: Any, config: ModelConfig, *, rows: int = 1) -> mx.array:
    """Logits of a sequence that uses every part of the T3."""
    random = np.random.default_rng(1)
    voice = stand_ins.voice(config, family="x")
    condition = compare._condition(voice)
    text = mx.array(random.integers(3, config.t3.text_vocabulary, 12))
    speech = mx.array(random.integers(0, 6561, (1, 20)))
    parts = [
        t3.prefix(condition),
        t3.embed_input(text, rows)[:1],
        t3.embed_speech(speech, mx.arange(1, 21)),
    ]
    return t3.logits(t3(mx.concatenate(parts, axis=1)))


@pytest.mark.parametrize("name", KINDS)
def test_every_tensor_of_the_t3_moves_the_output(name: str, converted: dict[str, Path]) -> None:
    loaded = load(converted[name], dtype=mx.float32)
    t3 = loaded.networks.t3

    def score(model: nn.Module) -> mx.array:
        output = hidden(model, loaded.config)
        weights = np.random.default_rng(3).normal(size=output.shape).astype(np.float32)
        return mx.sum(output * mx.array(weights))

    gradients: Any = tree_flatten(nn.value_and_grad(t3, score)(t3)[1])
    weights: Any = dict(tree_flatten(t3.parameters()))
    moved = {
        each: float(mx.linalg.norm(gradient)) * float(mx.abs(weights[each]).max())
        for each, gradient in gradients
    }
    assert set(moved) == set(weights)
    # A bias of the keys adds the same to every score of a query.
    moved.pop("cond_enc.perceiver.attn.to_k.bias")
    typical = float(np.median(list(moved.values())))
    assert {each for each, amount in moved.items() if not amount > 1e-4 * typical} == set()


def test_made_up_weights_behave_as_a_trained_model(converted: dict[str, Path]) -> None:
    """Clearly negative logits, no invalid id near the top, and an end that can be sampled."""
    loaded = load(converted["tiny-original"], dtype=mx.float32)
    logits = np.array(hidden(loaded.networks.t3, loaded.config)[0, -20:])
    assert -6 < logits[:, :STOP_SPEECH].mean() < -1
    assert 3 < logits[:, :STOP_SPEECH].std() < 5.5
    assert logits[:, STOP_SPEECH + 1 :].mean() < -10
    top = logits[:, :STOP_SPEECH].max(axis=1)
    assert np.all(logits[:, STOP_SPEECH + 1 :].max(axis=1) < top)
    assert np.any(logits[:, STOP_SPEECH] > top - 2.4)


def snapshot(place: Path, *checkpoints: Path, names: tuple[str, ...]) -> Path:
    """A folder with the published names, as the Hub's cache lays it out."""
    target = place / "models--ResembleAI--chatterbox" / "snapshots" / COMMIT
    target.mkdir(parents=True)
    for checkpoint, name in zip(checkpoints, names, strict=True):
        for path in checkpoint.iterdir():
            if path.name.startswith("t3_"):
                shutil.copy(path, target / name)
            elif path.name not in ("config.json", "README.md"):
                shutil.copy(path, target / path.name)
    return target


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published models in small sizes, with no known sums."""
    import dataclasses

    sizes = {"original": presets.TINY_ORIGINAL}
    for variant in ("original", "multilingual", "multilingual-v3"):
        model = published.MODELS[variant]
        unknown = {
            each: published.File(getattr(model, each).name)
            for each in ("t3", "s3gen", "voice_encoder", "voice")
        }
        known = dataclasses.replace(
            model,
            config=sizes.get(variant, presets.TINY_MULTILINGUAL),
            tokenizer=tuple(published.File(file.name) for file in model.tokenizer),
            **unknown,
        )
        monkeypatch.setitem(published.MODELS, variant, known)  # type: ignore[arg-type]


def test_one_repository_holds_several_models(
    checkpoints: dict[str, Path], tmp_path: Path, small: None, offline: None
) -> None:
    original, multilingual = checkpoints["tiny-original"], checkpoints["tiny-multilingual"]
    place = snapshot(
        tmp_path,
        original,
        multilingual,
        names=("t3_cfg.safetensors", "t3_mtl23ls_v2.safetensors"),
    )
    with pytest.raises(ModelFolderError, match=r"--model original or multilingual$"):
        source.recognise(place)
    found = source.recognise(place, model="multilingual")
    assert (found.variant, found.model_type) == ("multilingual", "chatterbox_multilingual")
    assert (found.repository, found.revision) == ("ResembleAI/chatterbox", COMMIT)
    folder.convert(found, tmp_path / "out", dtype="float16")
    assert (tmp_path / "out" / tokenizer.CANGJIE_FILE).is_file()
    assert source.recognise(place, model="original").family == found.family
    assert verify.origin(tmp_path / "out", None) == (
        "ResembleAI/chatterbox",
        COMMIT,
        "multilingual",
    )


@pytest.mark.parametrize("name", ["original", "ResembleAI/chatterbox"])
def test_first_use_needs_a_name_only(
    name: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    small: None,
    offline: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLX_AUDIO_TURBO_CACHE", str(tmp_path / "converted"))
    snapshot(tmp_path / "hub", checkpoints["tiny-original"], names=("t3_cfg.safetensors",))
    first = resolve(name)
    values = json.loads((first / "config.json").read_text())
    assert values["source"]["repository"] == "ResembleAI/chatterbox"
    assert values["variant"] == "original" and values["family"] == "chatterbox"
    assert "language:" in (first / "README.md").read_text()
    shutil.rmtree(tmp_path / "hub")
    assert resolve(name) == first
    assert load(first).config == presets.TINY_ORIGINAL


def test_a_known_file_is_checked_before_it_is_read(
    checkpoints: dict[str, Path], tmp_path: Path, offline: None
) -> None:
    """A download of two gigabytes that was cut short."""
    place = snapshot(tmp_path / "hub", checkpoints["tiny-original"], names=("t3_cfg.safetensors",))
    (place / "t3_cfg.safetensors").write_bytes(b"not even a header")
    with pytest.raises(ModelFolderError, match=r"has 17 bytes, not 2129653744; fetch it with"):
        source.resolve("original")
    assert hub.snapshot_of(place)[1] == COMMIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["model"]["vocab"].pop("[START]"), "the id"),
        (lambda v: v["model"]["vocab"].update(word=704), "another model"),
        (lambda v: v.pop("model"), "no tokenizer"),
    ],
)
def test_the_tokenizer_of_another_model_is_refused(
    change: Any, message: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    place = Path(shutil.copytree(checkpoints["tiny-original"], tmp_path / "checkpoint"))
    values = json.loads((place / "tokenizer.json").read_text())
    values["added_tokens"] = [x for x in values["added_tokens"] if x["content"] != "[START]"]
    change(values)
    (place / "tokenizer.json").write_text(json.dumps(values))
    with pytest.raises(ModelFolderError, match=message):
        folder.convert(source.recognise(place), tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_the_full_size_models_are_made_without_weights() -> None:
    for config in (presets.ORIGINAL, presets.MULTILINGUAL, presets.MULTILINGUAL_V3):
        count = sum(int(np.prod(shape)) for shape in parameter_shapes(config).values())
        assert 790e6 < count < 810e6
        assert make_t3(config.t3).config == config.t3
