"""The doctor: it passes here, and names the stage that a fault was planted in."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo.doctor import __main__ as command
from mlx_audio_turbo.doctor import checkup, goldens, growing, report, seeded
from mlx_audio_turbo.doctor.stages import STAGES
from mlx_audio_turbo.presets import TINY

M = "mlx_audio_turbo."
FAST = ("front ends", "VoiceEncoder", "sampling", "HiFT F0", "HiFT source")
"""Stages that take little time, run beside the one with the fault."""


def scaled(factor: float) -> Callable[[Any], Any]:
    """A fault that multiplies a function's result."""
    return lambda original: lambda *args, **kwargs: original(*args, **kwargs) * factor


def constant(value: Any) -> Callable[[Any], Any]:
    return lambda original: value


def nan_samples(original: Any) -> Any:
    def push(self: Any, tokens: Any, *, final: bool) -> Iterator[np.ndarray]:
        for block in original(self, tokens, final=final):
            yield block * np.float32(np.nan)

    return push


FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "front ends": (f"{M}encoders.features.kaldi_fbank", scaled(1.001)),
    "S3 tokenizer": (
        f"{M}encoders.s3_tokenizer.MemoryAttention._rotate",
        constant(lambda self, x: x),
    ),
    "VoiceEncoder": (f"{M}encoders.voice_encoder.STEP", constant(80)),
    "CAM++": (f"{M}encoders.campplus.pool_context", scaled(1.01)),
    "T3": (f"{M}t3.turbo.TurboT3.prefix", scaled(1.01)),
    "sampling": (f"{M}t3.turbo.TurboT3.filters", lambda filters: filters[::-1]),
    "S3Gen encoder": (f"{M}s3gen.conformer.relative_shift", scaled(1.1)),
    "S3Gen estimator": (f"{M}s3gen.estimator.TIME_SCALE", constant(999.0)),
    "HiFT F0": (f"{M}hift.f0.F0Predictor.__call__", scaled(1.001)),
    "HiFT source": (f"{M}hift.source.SINE_AMPLITUDE", constant(0.11)),
    "HiFT": (f"{M}hift.generator.LAST_SLOPE", constant(0.02)),
}
"""For each stage what is replaced, and by what of the original."""


def plant(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    target, fault = FAULTS[stage]
    monkeypatch.setattr(target, fault(_find(target)))


def _find(target: str) -> Any:
    parts = target.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            found = getattr(found, name)
        return found
    raise AssertionError(target)


def test_kernels_and_stages_pass_here() -> None:
    found = checkup.examine(only=("kernels", *STAGES))
    assert found.failed == [], report.text(found)
    worst = max(each.figure / each.bound for each in found.findings if "equal" not in each.what)  # type: ignore[operator]
    assert worst < 0.3, "the bounds leave room for another machine's rounding"


def test_every_stage_has_a_fault() -> None:
    assert set(FAULTS) == set(STAGES)


@pytest.mark.parametrize("stage", FAULTS)
def test_a_planted_fault_is_found_in_its_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, stage)
    found = checkup.examine(only={stage, *FAST})
    assert found.failed == [stage]


def test_a_fault_in_a_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    target = f"{M}ops.convolution.conv1d"
    monkeypatch.setattr(f"{M}ops.conv1d", scaled(1.0001)(_find(target)))
    found = checkup.examine(only=("kernels",))
    bad = {each.what.partition(",")[0] for each in found.findings if not each.passed}
    assert bad == {
        "convolution",
        "dilated convolution",
        "strided convolution",
        "depthwise convolution",
    }


def test_half_precision_in_the_place_of_float32_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = seeded.fill
    monkeypatch.setattr(
        f"{M}doctor.stages.fill",
        lambda network, name, dtype=None: original(network, name, mx.float16),
    )
    found = checkup.examine(only=("CAM++", "S3Gen estimator"))
    assert found.failed == ["CAM++", "S3Gen estimator"]


def test_nan_is_found_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        f"{M}s3gen.conformer.relative_shift",
        scaled(float("nan"))(_find(f"{M}s3gen.conformer.relative_shift")),
    )
    found = checkup.examine(only=("S3Gen encoder",))
    assert next(block["block"] for block in found.blocks if not block["finite"]) == "block 1"
    assert "inf" in json.dumps(found.as_dict(), allow_nan=False)


def test_growing_utterances_keep_their_pace() -> None:
    found = growing.grow(utterances=12)
    assert found.finite and found.peak > 1e6 and len(found.seconds) == 12


def test_an_exception_in_a_stage_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def thrash(*_: object, **__: object) -> None:
        raise RuntimeError("Cache thrashing is happening")

    monkeypatch.setattr(f"{M}doctor.growing.grow", thrash)
    found = checkup.examine(only=("growing utterances",))
    assert found.failed == ["growing utterances"]
    assert "Cache thrashing" in report.text(found)


def test_nan_samples_of_growing_utterances_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    target = f"{M}synthesis.token_to_wav.TokenToWav.push"
    monkeypatch.setattr(target, nan_samples(_find(target)))
    monkeypatch.setattr(growing, "UTTERANCES", 2)
    assert not growing.grow(utterances=2).finite


def test_shapes_are_counted_once_each() -> None:
    x, weight = mx.ones((1, 8, 4)), mx.ones((4, 3, 4))
    with growing.counting_shapes() as seen:
        for length in (8, 8, 6):
            mx.conv1d(x[:, :length], weight)
    assert len(seen) == 2


def test_a_sketch_measures_the_relative_error() -> None:
    x = seeded.spread("x", 7, 1001)
    golden = goldens.output("x", x).sketch
    assert goldens.output("x", x).error(golden) == 0
    for error in (1e-5, 1e-2):
        other = x + error * seeded.spread("y", 7, 1001)
        assert goldens.output("x", other).error(golden) == pytest.approx(error, rel=0.3)


def test_seeded_numbers_are_the_recorded_bits() -> None:
    assert seeded.uniform("a name", (4,)).tolist() == [
        -0.760776162147522,
        -0.6053801774978638,
        0.7959384918212891,
        0.3652040958404541,
    ]
    assert seeded.ids("a name", 1000, below=7).max() == 6


def test_a_model_folder_is_checked(tiny_folder: Path, tmp_path: Path) -> None:
    good = checkup.examine(model=tiny_folder, only=())
    assert good.failed == [] and good.machine["model"] == tiny_folder.name
    assert {block["stage"] for block in good.blocks} == {"model folder"}
    bad = tmp_path / "bad"
    shutil.copytree(tiny_folder, bad)
    tensors = load_file(bad / "model.safetensors")
    name = "s3gen.mel2wav.conv_out.weight"
    tensors[name] = tensors[name] * np.float32(np.nan)
    save_file(tensors, bad / "model.safetensors")
    found = checkup.examine(model=bad, only=())
    assert found.failed == ["model folder"]
    assert any(name in each.note for each in found.findings)


def test_the_command_prints_text_or_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["--only", "sampling"]) == 0
    assert "everything agrees" in capsys.readouterr().out
    plant(monkeypatch, "sampling")
    assert command.main(["--only", "sampling", "--json"]) == 1
    values = json.loads(capsys.readouterr().out)
    assert values["failed"] == ["sampling"] and values["machine"]["packages"]["mlx"]


@pytest.mark.parametrize("arguments", [["--only", "spleen"], ["--model", "no/such/folder"]])
def test_mistakes_end_in_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlx_audio_turbo.doctor: ") and error.count("\n") == 1


def test_speed_of_the_test_size() -> None:
    found = checkup.examine(only=("speed",), sizes=TINY)
    assert found.failed == [] and found.speed["real_time_factor"] > 0


def test_the_goldens_are_small() -> None:
    assert goldens.PATH.stat().st_size < 300_000
