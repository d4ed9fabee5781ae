"""The benchmark: what it runs, what it counts, how it talks to other implementations."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_audio_turbo import ops
from mlx_audio_turbo.benchmark import __main__ as command
from mlx_audio_turbo.benchmark import machine, measure, peers, runs, streaming
from mlx_audio_turbo.benchmark.lengths import by_length, lines
from mlx_audio_turbo.benchmark.peers import Peer, PeerKind, in_turn, ratio
from mlx_audio_turbo.benchmark.plot import draw
from mlx_audio_turbo.benchmark.report import STAGES, Row, table
from mlx_audio_turbo.benchmark.workload import clip, workload
from mlx_audio_turbo.config import SILENCE, SPEECH_CODES
from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import LoadedModel, load
from mlx_audio_turbo.ops import blas
from mlx_audio_turbo.options import ChunkOptions
from mlx_audio_turbo.presets import TINY, TURBO
from mlx_audio_turbo.synthesis.token_to_wav import tokens_due
from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

from .measure.peers import __main__ as acceptance
from .measure.peers import mlx_audio_turbo_port as port


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


def test_saved_workload_is_what_the_peers_read(tmp_path: Path) -> None:
    utterance = workload(TINY, 1)
    utterance.save(tmp_path / "w.npz")
    read = port.worker.inputs(tmp_path / "w.npz")
    assert np.array_equal(read.tokens, utterance.tokens)
    assert np.array_equal(read.x_vector, utterance.x_vector)


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
    assert measure.weight_bytes_per_step(t3) == 4 * expected
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
    peak = machine.ResidentPeak(every=0.001)
    with peak.watching():
        before = peak.bytes
        used = np.ones(50_000_000, np.uint8)
        time.sleep(0.1)
        del used
    assert 40e6 < peak.bytes - before < 200e6


def test_primitives_of_a_step(loaded: LoadedModel) -> None:
    count = measure.primitives_per_step(loaded.networks.t3, workload(loaded.config, 1))
    network = 30 * loaded.config.t3.layers if ops.on_gpu() else 0  # NumPy's, on the CPU
    assert network + 20 < count < 400


def test_second_sentence_and_rows_together(loaded: LoadedModel) -> None:
    utterance = workload(loaded.config, 1)
    assert 0 < runs.second_sentence(loaded, utterance, 1) < 1
    assert measure.tokens_together(loaded.networks.t3, utterance, rows=3, tokens=4) > 0


def test_streaming_gives_the_whole_length(loaded: LoadedModel) -> None:
    bias = loaded.networks.t3.speech_head.bias
    times = streaming.streaming(loaded, workload(loaded.config, 2), repeats=1)
    assert 0 < times["first_audio"] < times["streamed"] and times["chunks"] > 1
    assert streaming.together(loaded, workload(loaded.config, 0.4), rows=2) > 0
    assert loaded.networks.t3.speech_head.bias is bias


def test_chunks_of_equal_size_are_compared(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ChunkOptions()
    utterance = workload(loaded.config, 40)
    chunks = sum(tokens_due(chunk, options) < utterance.decoded for chunk in range(100)) + 1
    within = sum(tokens_due(chunk, options) < 247 for chunk in range(100))
    seconds = [1.0] * chunks
    seconds[-2], seconds[within - 1] = 3.0, 2.0
    monkeypatch.setattr(streaming, "chunk_seconds", lambda *_: seconds)
    assert streaming.chunk_growth(loaded, utterance) == 1.5


def test_command_prints_all_figures_within_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "bandwidth", lambda dtype: 30e9)
    arguments = ["--model", "tiny", "--seconds", "1", "--repeats", "1"]
    assert command.main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["decoding"]["bound"] == 30e9 / figures["decoding"]["weight_bytes"]
    assert set(figures["voice"]) == {"features", "S3 tokenizer", "VoiceEncoder", "CAM++"}
    assert figures["memory"]["peak_resident"] > figures["memory"]["weights"] > 1e6
    monkeypatch.setattr(runs, "own", lambda *_: figures)
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for word in ("CAM++", "estimator", "first audio", "primitives", "GB/s", "real-time factor"):
        assert word in out


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
    draw(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OptionError, match="no model folder"):
        by_length("no such folder", [1])


def pretender(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = PeerKind("pretender", Path(sys.executable), "pretender")
    monkeypatch.setattr(runs, "kinds", lambda: {"reference": kind})


def test_peers_are_asked_and_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretender(monkeypatch)
    utterance = workload(TINY, 10)
    with runs.peer("reference", tmp_path, utterance) as peer:
        assert peer.versions == {"pretender": "1"}
        times = peer.whole(utterance)
        assert times["T3 decode"] == [pytest.approx(0.246)]
        assert times["S3Gen"] == [pytest.approx(5)] and times["HiFT"] == [pytest.approx(5)]
        assert times["whole"] == [pytest.approx(sum(times[n][0] for n in times if n != "whole"))]
        # Scaled by positions, tokens, frames and samples, what is linear comes out as it is.
        scaled = peer.scaled(utterance, tokens=10)
        for name in ("T3 decode", "S3Gen", "HiFT"):
            assert scaled[name] == [pytest.approx(times[name][0])]
        with pytest.raises(OptionError, match="pretender ended with code 1: thirteen tokens"):
            peer.utterance(13, 13, 1, 1)


def test_a_peer_without_its_environment_says_how_to_make_it(tmp_path: Path) -> None:
    kind = PeerKind("PyTorch reference", tmp_path / "python", "reference")
    with pytest.raises(OptionError, match="make benchmark-peers"):
        Peer(kind, tmp_path, tmp_path, None)


def test_against_puts_both_side_by_side(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pretender(monkeypatch)
    (tmp_path / "config.json").touch()
    arguments = ["--model", "tiny", "--seconds", "1", "--repeats", "2", "--against", "reference"]
    assert command.main([*arguments, "--checkpoint", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ours, s" in out and "pretender, s" in out and "whole" in out
    assert max(map(len, out.splitlines())) <= 80


def test_turns_alternate_and_ratios_are_taken_turn_by_turn() -> None:
    order: list[str] = []

    def side(name: str, seconds: list[float]) -> measure.Times:
        order.append(name)
        return {"whole": [seconds.pop(0)]}

    a, b = [1.0, 2.0, 6.0], [2.0, 8.0, 1.0]
    ours, theirs = in_turn([lambda: side("a", a), lambda: side("b", b)], 3)
    assert order == ["a", "b"] * 3
    assert ratio(ours, theirs, "whole") == 0.5


def test_the_port_gets_the_checkpoint_and_not_something_else(tmp_path: Path) -> None:
    """A few of each kind of move, against what the converter makes of the same checkpoint."""
    folder = write_checkpoint(tmp_path / "tiny", config=TINY, name="tiny", seed=1)
    networks = load(resolve(folder), dtype=mx.float32).networks
    ours = {name: np.array(array) for name, array in tree_flatten(networks.parameters())}  # type: ignore[union-attr]
    checkpoint = port.Checkpoint(folder or tmp_path / "tiny")
    for theirs, mine in {
        "t3.tfmr.h.1.attn.c_attn.weight": "t3.tfmr.h.1.attn.c_attn.weight",
        "t3.speech_head.bias": "t3.speech_head.bias",
        "s3gen.mel2wav.ups.1.conv.weight": "s3gen.mel2wav.ups.1.weight",
        "s3gen.mel2wav.conv_pre.conv.weight": "s3gen.mel2wav.conv_in.weight",
        "s3gen.encoder.up_layer.conv.weight": "s3gen.flow.encoder.upsample.weight",
        "s3gen.decoder.estimator.final_block.block.1.bias": (
            "s3gen.flow.estimator.final_block.norm.bias"
        ),
        "s3gen.decoder.estimator.up_blocks.0.upsample.conv.conv.weight": (
            "s3gen.flow.estimator.up_conv.weight"
        ),
    }.items():
        expected = ours[mine]
        found = checkpoint.tensor(theirs, expected.shape)
        assert np.allclose(found, expected, atol=2e-3), theirs  # folders are float16


def test_the_port_gets_our_blas_and_nothing_else_of_ours() -> None:
    library = blas.library()
    if library is None:
        pytest.skip("no BLAS but MLX's own here")
    code = (
        "import sys\nfrom tests.measure.peers.mlx_audio_turbo_port import bind\n"
        f"print(bind({library!r}))\n"
        "import mlx.core as mx\n"
        "assert (mx.ones((2, 3)) @ mx.ones((3, 2))).tolist() == [[3, 3]] * 2\n"
        "assert 'mlx_audio_turbo' not in sys.modules\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=peers.ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and Path(library).name in run.stdout, run.stderr


def test_rows_say_whether_they_hold() -> None:
    low = Row("time", "x", 1.2, 0.8, None, upward=False)
    high = Row("speed", "%", 0.75, 0.9, None, upward=True)
    marks = [
        [replace(row, reached=reached).cells()[-1] for reached in (0.7, 1.0, 1.3)]
        for row in (low, high)
    ]
    assert marks == [["aim", "ok", "MISSED"], ["MISSED", "aim", "aim"]]
    assert not low.passed and low.cells()[-1] == "missing"
    assert max(map(len, table([low, high]).splitlines())) <= 80


def test_the_document_keeps_what_stands_around_the_figures(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text(f"before\n{acceptance.BEGIN}\nold\n{acceptance.END}\nafter\n")
    outcome = acceptance.Outcome(reached={"whole": 0.9, "load": 1.5})
    stages: dict[str, float] = dict.fromkeys((*STAGES, "whole"), 2.0)
    outcome.times = {"ours": stages, "reference": stages}
    acceptance.write(path, acceptance.BEGIN, acceptance.END, acceptance.document(outcome, 5))
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert "| PyTorch reference |" in text and "| ≤ 1.2 x | ≤ 0.8 x | 0.9 x | ok |" in text
    assert "missing" in text
    acceptance.write(path, acceptance.BEGIN, acceptance.END, "again")
    assert path.read_text() == f"before\n{acceptance.BEGIN}\n\nagain\n\n{acceptance.END}\nafter\n"


def test_the_readme_has_a_row_for_each_implementation() -> None:
    outcome = acceptance.Outcome(machine="a processor, 2 cores")
    stages: dict[str, float] = dict.fromkeys((*STAGES, "whole"), 2.0)
    outcome.times = {"ours": stages, "mlx-audio": stages}
    outcome.reached = {"first audio": 0.2, "load": 1.5, "memory": 0.7}
    text = acceptance.short(outcome)
    assert "| mlx-audio, same BLAS | 2.0 s | 2.0 s | 2.0 s | 2.0 s | 2.0 s | 0.2 |" in text
    assert "a processor, 2 cores" in text and "0.7 GB" in text


def test_every_peer_is_known_to_command_and_acceptance() -> None:
    assert set(command.PEERS) == set(peers.kinds())
    assert set(runs.SCALED) < set(peers.kinds())
