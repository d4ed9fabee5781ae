"""The benchmark: what it runs, and what it counts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo import ops
from mlx_audio_turbo.benchmark import __main__ as command
from mlx_audio_turbo.benchmark import machine, measure, runs, streaming
from mlx_audio_turbo.benchmark.lengths import by_length, lines
from mlx_audio_turbo.benchmark.plot import save_plot
from mlx_audio_turbo.benchmark.workload import clip, workload
from mlx_audio_turbo.config import SILENCE, SPEECH_CODES, OriginalT3Config
from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import LoadedModel, load
from mlx_audio_turbo.presets import TURBO
from mlx_audio_turbo.synthesis import scheduler
from mlx_audio_turbo.t3.decoder import Decoder

from .measure.peers import together


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = load(resolve("tiny"))
    runs.warm_up(model)
    return model


def test_workload_has_the_length_and_the_sizes_asked_for() -> None:
    utterance = workload(TURBO, 10)
    assert utterance.tokens.shape == (250,) and utterance.decoded == 247
    assert utterance.tokens[-3:].tolist() == [SILENCE] * 3 and utterance.seconds == 10
    assert utterance.tokens.max() < SPEECH_CODES and len(set(utterance.tokens.tolist())) > 200
    assert utterance.t3_prompt_tokens.shape == (375,) and utterance.prompt_mel.shape == (500, 80)
    again = workload(TURBO, 10)
    assert np.array_equal(utterance.prompt_mel, again.prompt_mel)
    assert clip(6).shape == (6 * 24_000,)


def test_an_utterance_is_the_sum_of_its_stages(loaded: LoadedModel) -> None:
    utterance = workload(loaded.config, 0.4)
    times = measure.utterance_times(loaded, utterance, inside=True)
    stages = [times[name][0] for name in ("T3 prefill", "T3 decode", "S3Gen", "HiFT")]
    assert times["whole"] == [pytest.approx(sum(stages))] and min(stages) > 0
    assert len(times["estimator step"]) == loaded.config.s3gen.estimator.steps
    assert sum(times["estimator step"]) + times["encoder"][0] < times["S3Gen"][0]


def test_bytes_of_a_step_are_those_of_blocks_and_head(loaded: LoadedModel) -> None:
    t3, config = loaded.networks.t3, loaded.config.t3
    block = 12 * config.width**2 + 13 * config.width
    head = (config.width + 1) * config.speech_vocabulary
    expected = config.layers * block + 2 * config.width + head
    size = 2 if ops.on_gpu() else 4
    assert measure.weight_bytes_per_step(t3) == size * expected
    utterance = workload(loaded.config, 10)
    positions = 1 + len(utterance.t3_prompt_tokens) + len(utterance.text_ids) + 1 + 247 // 2
    assert measure.cache_bytes_per_step(t3, utterance, mx.float32) == (
        2 * 4 * config.layers * config.width * positions
    )


def test_primitives_are_counted_per_dispatch() -> None:
    counter = machine.Primitives()
    x = mx.ones((4,))
    mx.eval(x)
    with counter.counting():
        mx.async_eval(mx.exp(x) * x, [x + x])
        mx.async_eval({"y": -x})
    assert counter.counts == [3, 1]
    before = mx.async_eval
    mx.async_eval(-x)
    assert before is mx.async_eval and counter.counts == [3, 1]


def test_the_peak_of_memory_is_seen_after_it_has_passed() -> None:
    # In a process of its own: here, memory that earlier tests left may be freed meanwhile.
    program = """
import time
import numpy as np
from mlx_audio_turbo.benchmark import machine

peak = machine.ResidentPeak(every=0.001)
with peak.watching():
    before = peak.bytes
    used = np.ones(50_000_000, np.uint8)
    time.sleep(0.1)
    del used
print(peak.bytes - before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert 40e6 < int(run.stdout) < 60e6


def test_primitives_of_a_step(loaded: LoadedModel) -> None:
    count = measure.primitives_per_step(loaded.networks.t3, workload(loaded.config, 1))
    if ops.on_gpu():
        assert 30 * loaded.config.t3.layers + 20 < count < 400
    else:  # NumPy and kernels
        assert count == 0


def test_the_original_is_measured_with_its_own_options_and_two_rows() -> None:
    original = load(resolve("tiny-original"))
    runs.warm_up(original)
    t3, utterance = original.networks.t3, workload(original.config, 0.4)
    assert utterance.decoded == len(utterance.tokens) == 10
    assert utterance.sampling.min_p == original.config.generation["min_p"] > 0
    times = measure.utterance_times(original, utterance, inside=True)
    assert len(times["estimator step"]) == 10
    size, config = t3.speech_head.weight.dtype.size, original.config.t3
    assert isinstance(config, OriginalT3Config)
    block = 4 * config.width**2 + 3 * config.width * config.feed_forward + 2 * config.width
    head = config.speech_vocabulary * config.width
    assert measure.weight_bytes_per_step(t3) == size * (config.layers * block + config.width + head)
    rows, positions = 2, 2 + config.perceiver_queries + len(utterance.text_ids) + 4 + 5
    assert measure.cache_bytes_per_step(t3, utterance, mx.float32) == (
        2 * 4 * config.layers * config.width * rows * positions
    )
    found = streaming.streaming(original, utterance, repeats=1)
    assert 0 < found["first_audio"] <= found["streamed"]


def test_second_sentence_and_rows_together(loaded: LoadedModel) -> None:
    utterance = workload(loaded.config, 1)
    assert 0 < runs.second_sentence(loaded, utterance, 1) < 1
    assert together.tokens_together(loaded.networks.t3, utterance, rows=3, tokens=4) > 0


def test_streaming_gives_the_whole_length(loaded: LoadedModel) -> None:
    times = streaming.streaming(loaded, workload(loaded.config, 2), repeats=1)
    assert 0 < times["first_audio"] < times["streamed"] and times["chunks"] > 1
    assert together.together(loaded, workload(loaded.config, 0.4), rows=2) > 0
    assert scheduler.Decoder is Decoder


def test_command_prints_all_figures_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "bandwidth", lambda dtype: 30e9)
    arguments = ["--model", "tiny", "--seconds", "1", "--repeats", "1"]
    assert command.main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    weights = figures["decoding"]["weight_bytes"]
    assert figures["decoding"]["bound"] == pytest.approx(30e9 / weights)
    assert set(figures["voice"]) == {"features", "S3 tokenizer", "VoiceEncoder", "CAM++"}
    assert figures["memory"]["peak_resident"] > figures["memory"]["weights"] > 1e6
    monkeypatch.setattr(runs, "own", lambda *_: figures)
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for word in ("CAM++", "estimator", "first audio", "primitives", "GB/s", "real-time factor"):
        assert word in out


@pytest.mark.parametrize(
    ("network", "part"),
    [("s3tokenizer", "S3 tokenizer"), ("ve", "VoiceEncoder"), ("s3gen.speaker_encoder", "CAM++")],
)
def test_what_the_folder_lacks_is_left_out_and_named(
    network: str,
    part: str,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "bandwidth", lambda dtype: 30e9)
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: x for name, x in tensors.items() if not name.startswith(f"{network}.")}
    save_file(kept, folder / "model.safetensors")
    values = json.loads((folder / "config.json").read_text())
    values["missing"] = {network: "which was left out"}
    (folder / "config.json").write_text(json.dumps(values))
    arguments = ["--model", str(folder), "--seconds", "1", "--repeats", "1"]
    assert command.main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    parts = {"features", "S3 tokenizer", "VoiceEncoder", "CAM++"}
    assert set(figures["voice"]) == parts - {part}
    monkeypatch.setattr(runs, "own", lambda *_: figures)
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    assert f"not in the folder: {network}\n" in out and f"  {part}" not in out


@pytest.mark.parametrize(
    "arguments",
    [["--seconds", "0"], ["--repeats", "0"], ["--plot", "x.png"], ["--model", "no such folder"]],
)
def test_mistakes_end_in_a_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--model", "tiny", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mlx_audio_turbo.benchmark: ") and error.count("\n") == 1


def test_lengths_run_in_processes_of_their_own(tmp_path: Path) -> None:
    found = by_length("tiny", [1.2, 1])
    assert [run["seconds"] for run in found] == [1, 1.2]
    assert len(lines(found).splitlines()) == 3
    save_plot(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OptionError, match="no model folder"):
        by_length("no such folder", [1])
