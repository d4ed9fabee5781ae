"""The comparison with other implementations: what it asks them, and how it is written down."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mlx_audio_turbo.benchmark import measure
from mlx_audio_turbo.benchmark.report import STAGES
from mlx_audio_turbo.benchmark.workload import workload
from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.ops import blas
from mlx_audio_turbo.options import ChunkOptions
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo.synthesis.token_to_wav import tokens_due
from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

from .measure import start
from .measure.folders import stored
from .measure.peers import __main__ as acceptance
from .measure.peers import against, quantised, together, worker
from .measure.peers import mlx_audio_turbo_port as port
from .measure.peers.against import in_turn, ratio
from .measure.peers.process import ROOT, Peer, PeerKind, kinds
from .measure.peers.rows import Row, table


def test_peers_read_the_saved_workload_unchanged(tmp_path: Path) -> None:
    utterance = workload(TINY, 1)
    utterance.save(tmp_path / "w.npz")
    read = worker.inputs(tmp_path / "w.npz")
    assert np.array_equal(read.tokens, utterance.tokens)
    assert np.array_equal(read.x_vector, utterance.x_vector)


def test_chunks_of_equal_size_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    options = ChunkOptions()
    utterance = workload(TINY, 40)
    chunks = sum(tokens_due(chunk, options) < utterance.decoded for chunk in range(100)) + 1
    largest = [tokens_due(k, options) - tokens_due(k - 1, options) for k in range(1, chunks - 1)]
    first = 1 + largest.index(max(largest))
    seconds = [1.0] * chunks
    seconds[-2], seconds[first] = 3.0, 2.0
    monkeypatch.setattr(together, "chunk_seconds", lambda *_: seconds)
    assert together.chunk_growth(None, utterance) == 1.5  # type: ignore[arg-type]


def use_pretender(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = PeerKind("pretender", Path(sys.executable), "pretender")
    monkeypatch.setattr(against, "kinds", lambda: {"reference": kind})


def test_a_peer_answers_with_seconds_per_stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_pretender(monkeypatch)
    utterance = workload(TINY, 10)
    with against.peer("reference", tmp_path, utterance) as peer:
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


def test_a_missing_peer_environment_names_the_make_target(tmp_path: Path) -> None:
    kind = PeerKind("PyTorch reference", tmp_path / "python", "reference")
    with pytest.raises(OptionError, match="make benchmark-peers"):
        Peer(kind, tmp_path, tmp_path, None)


def test_the_comparison_prints_both_sides_within_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    use_pretender(monkeypatch)
    (tmp_path / "config.json").touch()
    arguments = ["reference", "--model", "tiny", "--seconds", "1", "--repeats", "2"]
    assert against.main([*arguments, "--checkpoint", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ours, s" in out and "pretender, s" in out and "whole" in out
    assert max(map(len, out.splitlines())) <= 80


def test_turns_alternate_and_ratios_are_per_turn() -> None:
    order: list[str] = []

    def side(name: str, seconds: list[float]) -> measure.Times:
        order.append(name)
        return {"whole": [seconds.pop(0)]}

    a, b = [1.0, 2.0, 6.0], [2.0, 8.0, 1.0]
    ours, theirs = in_turn([lambda: side("a", a), lambda: side("b", b)], 3)
    assert order == ["a", "b"] * 3
    assert ratio(ours, theirs, "whole") == 0.5


def test_the_port_gets_each_tensor_of_the_checkpoint(tmp_path: Path) -> None:
    """A few of each kind of move, against what the converter makes of the same checkpoint."""
    folder = write_checkpoint(tmp_path / "tiny", config=TINY, name="tiny", seed=1)
    networks = load(resolve(folder), dtype=mx.float32).networks
    ours = {name: np.array(array) for name, array in tree_flatten(networks.parameters())}  # type: ignore[union-attr]
    checkpoint = port.Checkpoint(folder)
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


def test_the_port_gets_our_blas_and_none_of_our_modules() -> None:
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
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0 and Path(library).name in run.stdout, run.stderr


def test_rows_are_marked_ok_aim_or_missed() -> None:
    low = Row("time", "x", 1.2, 0.8, None, upward=False)
    high = Row("speed", "%", 0.75, 0.9, None, upward=True)
    marks = [
        [replace(row, reached=reached).cells()[-1] for reached in (0.7, 1.0, 1.3)]
        for row in (low, high)
    ]
    assert marks == [["aim", "ok", "MISSED"], ["MISSED", "aim", "aim"]]
    assert not low.passed and low.cells()[-1] == "missing"
    assert max(map(len, table([low, high]).splitlines())) <= 80


def test_the_document_changes_only_between_the_marks(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text(f"before\n{acceptance.BEGIN}\nold\n{acceptance.END}\nafter\n")
    outcome = acceptance.Outcome(reached={"whole": 0.9, "load": 1.5})
    stages: dict[str, float] = dict.fromkeys((*STAGES, "whole"), 2.0)
    outcome.times = {"ours": stages, "reference": stages}
    acceptance.write(path, acceptance.BEGIN, acceptance.END, acceptance.document(outcome, 5))
    text = path.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "\nold\n" not in text
    assert "| PyTorch reference |" in text and "| ≤ 1.2 x | ≤ 0.8 x | 0.9 x | ok |" in text
    assert "missing" in text and "of the original" not in text
    outcome.original = {"ours": stages | {"whole": 3.5}, "reference": stages}
    assert "| whole | 3.50 | 2.00 |" in acceptance.document(outcome, 5)
    acceptance.write(path, acceptance.BEGIN, acceptance.END, "again")
    assert path.read_text() == f"before\n{acceptance.BEGIN}\n\nagain\n\n{acceptance.END}\nafter\n"


def test_quantised_folders_are_measured_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised.runs.machine, "bandwidth", lambda dtype: 30e9)
    # A process for each, as tests/test_benchmark.py has it.
    monkeypatch.setattr(quantised, "_over_the_file", lambda folder, seconds: 0.5)
    monkeypatch.setattr(quantised, "together", lambda *_: 0.5)
    monkeypatch.setattr(start, "medians", lambda folder, repeats: start.measure(folder))
    source = write_checkpoint(tmp_path / "tiny", config=TINY, name="tiny", seed=1)
    kinds = (quantised.PLAIN, quantised.EIGHT, quantised.FOUR)
    folders = {kind: stored(source, kind, work=tmp_path) for kind in kinds}
    folders[quantised.NANO] = folders[quantised.EIGHT]
    sizes = {(path / "model.safetensors").stat().st_size for path in folders.values()}
    assert len(sizes) == 3
    found = quantised.measure(folders, repeats=1, seconds=0.6, start_repeats=1)
    assert set(found.kinds) == set(folders) and found.kinds["float32"]["of float32's speed"] == 1
    assert list(found.batches) == ["1", "2", "4", "8", "16"] and min(found.batches.values()) > 0
    parts = [found.start[stage] for stage in start.STAGES]
    assert min(parts) > 0 and sum(parts) == pytest.approx(found.start["first audio"])
    reached = {row.what: row.reached for row in found.rows(None)}
    assert sum(each is None for each in reached.values()) == 2  # those beside the reference
    assert all(row.reached for row in found.rows(9.0))
    assert max(len(row.what) for row in found.rows(None)) <= 42
    outcome = acceptance.Outcome(quantised=asdict(found))
    stages: dict[str, float] = dict.fromkeys((*STAGES, "whole"), 2.0)
    outcome.times = {"ours": stages, "reference": stages}
    text = acceptance.document(outcome, 5)
    assert "| 16 | " in text and "Nano, 8 bits" in text and "missing" in text.partition("Ten")[0]
    assert "missing" not in text.partition("How T3's weights")[2]


def test_the_readme_has_a_row_for_each_implementation() -> None:
    outcome = acceptance.Outcome(machine="a processor, 2 cores")
    stages: dict[str, float] = dict.fromkeys((*STAGES, "whole"), 2.0)
    outcome.times = {"ours": stages, "mlx-audio": stages}
    outcome.reached = {"first audio": 0.2, "load": 1.5, "memory": 0.7}
    text = acceptance.short(outcome)
    assert "| mlx-audio, same BLAS | 2.0 s | 2.0 s | 2.0 s | 2.0 s | 2.0 s | 0.2 |" in text
    assert "a processor, 2 cores" in text and "0.7 GB" in text


def test_only_known_peers_are_scaled() -> None:
    assert set(against.SCALED) < set(kinds())
