"""The reference's own tensors, recorded on the tiny random checkpoint, checked without torch."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

from .measure.parity.compare.context import Context
from .measure.parity.sizes import GOLDEN

GOLDENS = Path(__file__).parent / "goldens"
CLIP = Path(__file__).parent / "data" / "1069-133699-0000.flac"
PARTS = sorted(path.stem for path in GOLDENS.glob("*.npz"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights are drawn again from their seed, so none are kept in the repository."""
    folder = tmp_path_factory.mktemp("goldens") / "tiny"
    write_checkpoint(folder, config=GOLDEN, name="tiny", seed=20_26)
    return folder


@pytest.mark.parametrize("part", PARTS)
def test_equal_to_the_reference(part: str, checkpoint: Path) -> None:
    context = Context(checkpoint, [CLIP], None, GOLDENS, small=True)
    rows = list(importlib.import_module(f"tests.measure.parity.compare.{part}").rows(context))
    assert rows
    missed = [row for row in rows if not row.passed]
    assert not missed, missed
