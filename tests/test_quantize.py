"""Fewer bits for T3's blocks and nothing else; the folders load and speak."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import ChatterboxTurbo, ModelFolderError, OptionError, VoiceError, ops
from mlx_audio_turbo.config import Quantization
from mlx_audio_turbo.loading import networks
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.loading.networks import Networks, parameter_shapes
from mlx_audio_turbo.loading.networks import quantize as quantize_networks
from mlx_audio_turbo.ops import compiled, lanes
from mlx_audio_turbo.ops.compiled import runtime
from mlx_audio_turbo.presets import NANO, TINY, TURBO
from mlx_audio_turbo_convert import compare, folder, precision, quantize
from mlx_audio_turbo_convert.__main__ import main
from mlx_audio_turbo_convert.safetensors_writer import Reader, from_bfloat16, size, to_bfloat16
from mlx_audio_turbo_convert.source import Source, recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic
from mlx_audio_turbo_convert.synthetic import voice as stand_ins

FOUR = Quantization(4, 64)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    place = tmp_path_factory.mktemp("upstream") / "tiny"
    synthetic.write_checkpoint(place, config=TINY, name="tiny", seed=6)
    return recognise(place)


@pytest.fixture(scope="module")
def made(source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("made")
    kinds: dict[str, dict[str, Any]] = {
        "fp16": {},
        "4bit": {"quantization": FOUR},
        "8bit": {"quantization": Quantization(8, 32)},
        "mute": {"quantization": Quantization(6, 64), "s3_tokenizer": False},
    }
    return {
        name: folder.convert(source, place / name, dtype="float16", **options)
        for name, options in kinds.items()
    }


def test_turbo_has_96_quantised_layers() -> None:
    found = set(quantize.layers(TURBO, FOUR))
    parts = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert found == {f"t3.tfmr.h.{i}.{part}" for i in range(24) for part in parts}
    assert len(found) == 96


@pytest.mark.parametrize(
    "name",
    [
        "t3.text_emb",
        "t3.speech_emb",
        "t3.speech_head",
        "t3.cond_enc.spkr_enc",
        "t3.tfmr.wpe",
        "t3.tfmr.ln_f",
        "t3.tfmr.h.0.ln_1",
        "t3.tfmr.h.23.ln_2",
        "ve",
        "s3gen.speaker_encoder",
        "s3gen.flow.input_embedding",
        "s3gen.flow.encoder",
        "s3gen.flow.estimator",
        "s3gen.mel2wav",
        "s3tokenizer",
    ],
)
def test_what_stays_in_full_precision(name: str) -> None:
    plain = parameter_shapes(TURBO)
    fewer = parameter_shapes(TURBO, quantization=FOUR)
    mine = {key: shape for key, shape in plain.items() if key.startswith(f"{name}.")}
    assert mine
    assert {key: shape for key, shape in fewer.items() if key.startswith(f"{name}.")} == mine


@pytest.mark.parametrize(("bits", "limit"), [(None, 1.10e9), (8, 0.80e9), (6, 0.72e9), (4, 0.65e9)])
def test_sizes_of_turbo(bits: int | None, limit: float) -> None:
    quantization = Quantization(bits, 64) if bits else None
    tensors = quantize.targets(TURBO, "F16", missing=["s3tokenizer"], quantization=quantization)
    assert 0.9 * limit < size(tensors, metadata={"format": "mlx"}) < limit


@pytest.mark.parametrize("group", [32, 64, 128])
def test_nano_takes_every_group_size(group: int) -> None:
    assert len(quantize.layers(NANO, Quantization(4, group))) == 48


def test_a_group_size_that_does_not_divide(tmp_path: Path) -> None:
    narrow = replace(TINY, t3=replace(TINY.t3, width=64, heads=1))
    checkpoint = synthetic.write_checkpoint(tmp_path / "narrow", config=narrow, name="tiny")
    with pytest.raises(
        OptionError, match=r"groups of 128 do not divide the 64 inputs of t3.*size 32 or 64"
    ):
        folder.convert(
            recognise(checkpoint),
            tmp_path / "out",
            dtype="float16",
            quantization=Quantization(4, 128),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["narrow"]


@pytest.mark.parametrize(("bits", "group"), [(3, 64), (5, 64), (16, 64), (4, 16), (4, 256)])
def test_unknown_numbers(bits: int, group: int) -> None:
    with pytest.raises(OptionError, match="choose one of"):
        Quantization(bits, group)


@pytest.mark.parametrize(("dtype", "stored"), [("float16", "F16"), ("bfloat16", "BF16")])
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_streaming_gives_what_the_framework_gives(
    bits: int, dtype: str, stored: str, source: Source, tmp_path: Path
) -> None:
    """Tensor by tensor, the same bits as ``mlx.nn.quantize`` of the loaded half-precision model."""
    place = folder.convert(source, tmp_path / "plain", dtype=dtype)
    networks = Networks(TINY)
    networks.load_weights(str(place / "model.safetensors"))
    quantize_networks(networks, Quantization(bits, 32))
    flat: Any = tree_flatten(networks.parameters())
    wanted = dict(flat)
    made = folder.convert(
        source, tmp_path / "fewer", dtype=dtype, quantization=Quantization(bits, 32)
    )
    found = mx.load(str(made / "model.safetensors"))
    assert isinstance(found, dict) and set(found) == set(wanted)
    for name, array in found.items():
        assert array.dtype == wanted[name].dtype, name
        assert mx.array_equal(array, wanted[name]), name


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_errors_are_those_of_uniform_steps(bits: int) -> None:
    weight = np.random.default_rng(0).standard_normal((256, 512)).astype(np.float32)
    for stored in ("F32", "F16", "BF16"):
        quantization = Quantization(bits, 64)
        plain = precision.cast(weight, stored, name="")
        parts = quantize.quantize(plain, quantization, stored)
        # a group of 64 normal values spans 4.7 deviations; a step's error is its width / sqrt(12)
        expected = 4.7 / (2**bits - 1) / np.sqrt(12)
        error = quantize.relative_error(weight, parts, quantization)
        assert 0.8 * expected < error < 1.6 * expected + (0.003 if stored == "BF16" else 0)


def test_half_precision_bits_survive() -> None:
    values = np.array([0.1, -3.0, 7e-5], np.float32)
    np.testing.assert_allclose(from_bfloat16(to_bfloat16(values)), values, rtol=2**-8)


def test_what_the_folder_says_of_itself(made: dict[str, Path]) -> None:
    config = json.loads((made["4bit"] / "config.json").read_text())
    assert config["quantization"] == {
        "bits": 4,
        "group_size": 64,
        "quantized_components": ["t3.tfmr.h"],
    }
    assert config["dtype"] == "float16"
    tensors = Reader(made["4bit"] / "model.safetensors").tensors
    codes = {name for name, tensor in tensors.items() if tensor.dtype == "U32"}
    assert codes == {f"{layer}.weight" for layer in quantize.layers(TINY, FOUR)}
    floats = {name: tensor.dtype for name, tensor in tensors.items() if name not in codes}
    assert set(floats.values()) == {"F16", "F32"}
    block = "t3.tfmr.h.0"
    assert floats[f"{block}.mlp.c_fc.scales"] == floats["t3.speech_head.weight"] == "F16"
    assert floats[f"{block}.mlp.c_fc.bias"] == floats[f"{block}.ln_1.weight"] == "F32"


def test_on_the_cpu_without_compiled_kernels_weights_are_expanded(
    made: dict[str, Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "reason", lambda: "no numba here")
    with caplog.at_level(logging.INFO, "mlx_audio_turbo"):
        loaded = load(made["4bit"])
    assert "the 4-bit weights are expanded to float32" in caplog.text
    assert "no numba here" in caplog.text
    assert loaded.expanded and loaded.quantization == FOUR
    layer = loaded.networks.t3.tfmr.h[1].mlp.c_fc
    assert type(layer) is nn.Linear and layer.weight.dtype == mx.float32
    reader = Reader(made["4bit"] / "model.safetensors")
    parts = [reader.read(f"t3.tfmr.h.1.mlp.c_fc.{part}") for part in quantize.PARTS]
    np.testing.assert_array_equal(np.array(layer.weight), quantize.dequantize(parts, FOUR))


@pytest.mark.skipif(not compiled.available(), reason=str(compiled.reason()))
def test_on_the_cpu_compiled_kernels_read_them(made: dict[str, Path]) -> None:
    loaded = load(made["4bit"])
    assert not loaded.expanded
    t3 = loaded.networks.t3
    assert isinstance(t3.tfmr.h[1].mlp.c_fc, nn.QuantizedLinear)
    assert t3.text_emb.weight.dtype == t3.speech_head.weight.dtype == mx.float16
    assert t3.tfmr.ln_f.weight.dtype == t3.cond_enc.spkr_enc.weight.dtype == mx.float32
    assert type(t3.make_forward()).__name__ == "CompiledForward"
    x = mx.random.normal((1, 1, loaded.config.t3.width), key=mx.random.key(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "reason", lambda: "no numba here")
        plain = load(made["4bit"]).networks.t3
        found, wanted = (each.make_forward()(x, each.make_cache(), [0]) for each in (t3, plain))
    np.testing.assert_allclose(np.array(found), np.array(wanted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_on_a_gpu_weights_stay_quantised(
    kind: str, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quantised layers and the expanded ones compute the same."""
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "reason", lambda: "no numba here")
        plain = load(made[kind])
    monkeypatch.setattr(ops, "on_gpu", lambda: True)
    fewer = load(made[kind], dtype=mx.float32)
    assert not fewer.expanded
    flat: Any = tree_flatten(fewer.networks.leaf_modules(), is_leaf=nn.Module.is_module)
    kept = {name for name, module in flat if isinstance(module, nn.QuantizedLinear)}
    assert kept == set(quantize.layers(TINY, Quantization(4, 32)))
    x = mx.random.normal((1, 5, fewer.config.t3.width), key=mx.random.key(0))
    found, wanted = (np.array(model.networks.t3(x)) for model in (fewer, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_quantised_folders_speak(kind: str, made: dict[str, Path]) -> None:
    model = ChatterboxTurbo.from_pretrained(made[kind])
    voice = stand_ins.voice(
        TINY, family=json.loads((made[kind] / "config.json").read_text())["family"]
    )
    assert model.generate("Hello.", voice=voice, seed=1, max_tokens=6).audio.std() > 1e-4


def test_without_the_s3_tokenizer_no_voice_is_made(made: dict[str, Path]) -> None:
    model = ChatterboxTurbo.from_pretrained(made["mute"])
    with pytest.raises(VoiceError, match=r"no s3tokenizer, which was left out.*--no-s3tokenizer"):
        model.encode_voice(stand_ins.clip(), sample_rate=24_000)
    names = Reader(made["mute"] / "model.safetensors").tensors
    assert not any(name.startswith("s3tokenizer.") for name in names)
    card = (made["mute"] / "README.md").read_text()
    assert "cannot make voices" in card and "--ref_audio" not in card


@pytest.mark.parametrize(
    "values",
    [
        {"bits": 4},
        {"bits": 5, "group_size": 64, "quantized_components": ["t3.tfmr.h"]},
        {"bits": 4, "group_size": 64, "quantized_components": [3]},
        {"bits": 4, "group_size": 128, "quantized_components": ["t3.tfmr.h"]},
        {"bits": 4, "group_size": 64, "quantized_components": ["t3.tfmr.h"], "mode": "mxfp4"},
        {"bits": 8, "group_size": 64, "quantized_components": ["t3.tfmr.h"]},
        {
            "bits": 4,
            "group_size": 64,
            "quantized_components": ["t3.tfmr"],
        },
        {"bits": 4, "group_size": 64, "quantized_components": ["s3gen"]},
        [],
    ],
)
def test_a_damaged_description_is_refused(
    values: Any, made: dict[str, Path], tmp_path: Path
) -> None:
    place = tmp_path / "model"
    place.mkdir()
    for path in made["4bit"].iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    config = json.loads((place / "config.json").read_text())
    config["quantization"] = values
    (place / "config.json").write_text(json.dumps(config))
    if values and values.get("quantized_components") == ["t3.tfmr"]:
        assert load(place).config == TINY  # there are no other linear layers in it
        return
    with pytest.raises(ModelFolderError) as caught:
        load(place)
    assert "\n" not in str(caught.value)


def test_codes_of_another_type_are_refused(made: dict[str, Path], tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    for path in made["4bit"].iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    tensors = load_file(place / "model.safetensors")
    name = "t3.tfmr.h.0.mlp.c_fc.weight"
    tensors[name] = tensors[name].view(np.float32)
    save_file(tensors, place / "model.safetensors")
    with pytest.raises(ModelFolderError, match=f"{name} is F32, not U32"):
        load(place)


def test_the_comparison_prints_its_table(
    made: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = [str(made[name]) for name in ("fp16", "8bit", "4bit")]
    assert main(["compare", *kinds, "--tokens", "12", "--cards"]) == 0
    out = capsys.readouterr().out
    rows = [line.split("|")[1:-1] for line in out.splitlines() if line.startswith("| ")]
    assert [row[0].strip() for row in rows[1:]] == ["float16", "8-bit", "4-bit"]
    assert rows[1][3].strip() == "100.00%" and float(rows[1][4]) == 0
    divergences = [float(row[4]) for row in rows[1:]]
    assert divergences == sorted(divergences) and 0 < divergences[1] < 0.1 * divergences[2]
    assert "untrained" in out and "48 speech tokens" in out
    assert main(["compare", *kinds, "--tokens", "12", "--cards"]) == 0
    for kind in kinds:
        text = (Path(kind) / "README.md").read_text()
        assert text.count("## Against full precision") == text.count("| float16 |") == 1
        assert "they do not show how the audio sounds" in text and "## Consent" in text


def test_only_models_of_a_kind_are_compared(made: dict[str, Path], tiny_folder: Path) -> None:
    with pytest.raises(OptionError, match="leave it out"):
        list(compare.compare([made["fp16"], tiny_folder], tokens=2))


def test_the_command(
    source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    build = ["build", "--source", str(source.folder)]
    assert main([*build, "--quantize", "--bits", "8", "--group-size", "32"]) == 0
    assert main([*build, "--quantize"]) == 0
    assert main([*build, "--dtype", "bfloat16", "--no-s3tokenizer"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "Chatterbox-Tiny-TTS-4bit",
        "Chatterbox-Tiny-TTS-8bit",
        "Chatterbox-Tiny-TTS-bf16",
    ]
    capsys.readouterr()
    for wrong in (["--bits", "4"], ["--group-size", "64"], ["--model", "nano"]):
        assert main([*build, *wrong, "--output", "x"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "options",
    [["--quantize", "--bits", "8"], ["--dtype", "bfloat16"], ["--dtype", "float32"]],
    ids=lambda options: options[-1],
)
def test_converting_compiles_what_the_folder_needs(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernels of the first sentence are then in the cache."""
    begun: list[object] = []
    kept: list[bool] = []
    kind = networks.TurboT3

    def start(_: object, *given: object, keep: bool = False) -> None:
        begun.append(given)
        kept.append(keep)

    monkeypatch.setattr(kind, "start_compiling", start)
    monkeypatch.setattr(kind, "reads_stored", lambda _: True)
    monkeypatch.setattr(
        lanes, "compile_in_background", lambda keep=False: start(0, "lanes", keep=keep)
    )
    for name, expected in (("turbo", True), ("tiny", False)):
        begun.clear()
        source, made = tmp_path / f"{name}-source", tmp_path / name
        synthetic.write_checkpoint(source, config=TINY, name=name, seed=6)
        assert main(["build", "--source", str(source), *options, "--output", str(made)]) == 0
        assert bool(begun) == (expected and not ops.on_gpu())
        if begun:
            # It ends when the code is in the cache; what only speaks does not wait.
            assert kept == [True, True]
            compiled_for = begun.copy()
            begun.clear()
            load(made)
            assert begun == compiled_for and kept[2:] == [False, False]


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_the_format_is_as_documented(bits: int) -> None:
    """docs/weights.md: a row is one stream of bits; weight = scale * code + bias of its group."""
    weight = np.random.default_rng(1).standard_normal((3, 128)).astype(np.float32)
    quantization = Quantization(bits, 32)
    codes, scales, biases = quantize.quantize(weight, quantization, "F32")
    stream = np.unpackbits(codes.astype("<u4").view(np.uint8), axis=1, bitorder="little")
    values = stream.reshape(3, 128, bits) @ (1 << np.arange(bits))
    expected = np.repeat(scales, 32, axis=1) * values + np.repeat(biases, 32, axis=1)
    found = quantize.dequantize([codes, scales, biases], quantization)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
