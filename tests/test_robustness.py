"""Whatever is given to the commands and calls: one line, an exit code, nothing half-made."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlx_audio_turbo import TextError
from mlx_audio_turbo.options import SEGMENT_LIMIT
from mlx_audio_turbo.text.normalize import normalize_text
from mlx_audio_turbo.text.segments import MAX_BYTES, normalize_spaces, split_text
from mlx_audio_turbo.text.tokenizer import TextTokenizer

from .measure.robustness.bench import Bench, attempt, small_disk
from .measure.robustness.inputs import INPUTS, full_disk, read_only_disk
from .measure.robustness.soak import soak


@pytest.fixture(scope="module")
def bench(model, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        # Whatever comes without a place of its own lands in the place that is watched.
        place = tmp_path_factory.mktemp("place")
        patch.chdir(place)
        patch.setenv("MLX_AUDIO_TURBO_VOICES", str(folder / "voices"))
        yield Bench(folder, place, tiny_folder, model)


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, inputs in INPUTS.items() for name in inputs]
)
def test_bad_input(bench: Bench, group: str, name: str) -> None:
    outcome = attempt(bench, INPUTS[group][name](bench))
    assert not outcome.problems, outcome.line


def test_a_full_disk(bench: Bench) -> None:
    with small_disk(bench.folder / "full", options="size=8k") as disk:
        if disk is None:
            pytest.skip("no disk can be mounted here; the next test stands in")
        for name, trial in full_disk(bench, disk).items():
            outcome = attempt(bench, trial)
            assert not outcome.problems, (name, outcome)
            assert not list(disk.rglob("*")), name


def test_a_read_only_disk(bench: Bench) -> None:
    with small_disk(bench.folder / "closed", options="ro,size=8k") as disk:
        if disk is None:
            pytest.skip("no disk can be mounted here")
        for name, trial in read_only_disk(bench, disk).items():
            outcome = attempt(bench, trial)
            assert not outcome.problems, (name, outcome)


def test_files_that_may_not_grow(bench: Bench, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk where none can be mounted."""
    code = (
        "import resource, sys\n"
        "from mlx_audio_turbo import tts\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(tts.main(sys.argv[1:]))"
    )
    arguments = ["--model", str(bench.tiny), "--voice", str(bench.voice_file), "--text", "Hello."]
    arguments += ["--output", str(tmp_path / "o.wav"), "--max_tokens", "40", "--seed", "1"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("mlx_audio_turbo.tts: ")
    assert not list(tmp_path.iterdir())


def test_memory_stays_flat(bench: Bench) -> None:
    """The 500 generations of docs/reliability.md are those of ``make reliability``."""
    found = soak(bench.model, bench.voice, generations=30)
    assert found.generations == 30
    assert found.growth < 50e6


MARKS = [*"aB3.,!?:;…—“’«()[] \n\t\u00a0\u2029\ud800🙂\0", "[laugh]", "Mr. "]
texts = st.text(max_size=400) | st.lists(st.sampled_from(MARKS), max_size=200).map("".join)
quick = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@quick
@given(texts)
def test_any_text_is_cleaned_or_refused(text: str) -> None:
    try:
        cleaned = normalize_text(text)
    except TextError:
        assert not text.strip()
        return
    assert cleaned.endswith((".", "!", "?", "-", ","))
    assert not set(cleaned) & set("…:—–“”‘’")
    assert cleaned.split()
    once_more = normalize_text(cleaned)
    assert once_more.endswith((".", "!", "?", "-", ","))


@quick
@given(texts, st.integers(40, 400))
def test_any_text_is_packed_without_loss(text: str, limit: int) -> None:
    segments = split_text(text, limit=limit)
    assert "".join(s.text + s.glue for s in segments) == normalize_spaces(text)
    for segment in segments:
        assert 0 < len(segment.text) <= limit
        assert len(segment.text.encode("utf-8", "surrogatepass")) <= max(limit, MAX_BYTES)


@quick
@given(text=texts)
def test_any_segment_fits_the_tokenizer(tiny_folder: Path, text: str) -> None:
    tokenizer = TextTokenizer(tiny_folder, max_tokens=1024)
    for segment in split_text(text, limit=SEGMENT_LIMIT):
        try:
            ids = tokenizer.encode(normalize_text(segment.text))
        except TextError as error:
            assert "surrogate" in str(error)
        else:
            assert ids
