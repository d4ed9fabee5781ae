"""Untrained checkpoints: published names and sizes, drawn by name, nothing at its default."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from mlx_audio_turbo.config import from_json
from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.presets import NANO, TINY, TURBO
from mlx_audio_turbo_convert.published import MODELS
from mlx_audio_turbo_convert.safetensors_writer import Reader, Tensor, size
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic
from mlx_audio_turbo_convert.synthetic import shapes
from mlx_audio_turbo_convert.synthetic.random_init import STEPS, draw, near_normal

FILES = synthetic.tables(TINY, "t3_tiny_v1.safetensors")
TENSORS = {name: tensor for table in FILES.values() for name, tensor in table.items()}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write_checkpoint(
        tmp_path_factory.mktemp("synthetic") / "tiny", config=TINY, name="tiny"
    )


@pytest.mark.parametrize(
    ("table", "count", "file_bytes", "listing"),
    [
        (
            shapes.t3(TURBO.t3),
            299,
            1_915_480_052,
            "4d94f6ed2a456c3b5945af89516dcd3c7719e16b7c70df640bdf449c535b115e",
        ),
        (
            shapes.s3gen(TURBO),
            2491,
            1_064_875_036,
            "a73c4f58619fb6757a15435e03f91835a74aa937a1b01fa75d54c2a8c847afad",
        ),
        (shapes.voice_encoder(TURBO.voice_encoder), 16, 5_695_784, None),
    ],
    ids=["t3", "s3gen", "ve"],
)
def test_full_size_tables_are_the_published_ones(
    table: dict[str, Tensor], count: int, file_bytes: int, listing: str | None
) -> None:
    """The SHA-256 is that of the published files' names, dtypes and shapes."""
    assert len(table) == count
    assert size(table) == file_bytes
    if listing:
        lines = [f"{name} {table[name].dtype} {[*table[name].shape]}" for name in sorted(table)]
        assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == listing


def test_nano_has_its_own_t3_and_shares_the_rest() -> None:
    assert shapes.s3gen(NANO) == shapes.s3gen(TURBO)
    table = shapes.t3(NANO.t3)
    assert table["tfmr.h.11.attn.c_attn.weight"].shape == (768, 2304)
    assert "tfmr.h.12.attn.c_attn.weight" not in table
    assert 0.86e9 < size(table) < 0.88e9


def test_files_are_read_by_the_format_s_own_library(checkpoint: Path) -> None:
    for filename, table in FILES.items():
        assert (checkpoint / filename).stat().st_size == size(table)
        with safe_open(checkpoint / filename, "np") as file:
            assert set(file.keys()) == set(table)
            for name in list(table)[::50]:
                array = file.get_tensor(name)
                np.testing.assert_array_equal(array, draw(name, table[name], seed=0))


def test_the_tiny_checkpoint_is_small(checkpoint: Path) -> None:
    assert sum(path.stat().st_size for path in checkpoint.iterdir()) < 28e6


def test_a_tensor_depends_on_seed_and_name_only() -> None:
    tensor = Tensor("F32", (16, 16))
    one = draw("tfmr.h.0.mlp.c_fc.weight", tensor, seed=0)
    np.testing.assert_array_equal(one, draw("tfmr.h.0.mlp.c_fc.weight", tensor, seed=0))
    assert not np.array_equal(one, draw("tfmr.h.0.mlp.c_fc.weight", tensor, seed=1))
    assert not np.array_equal(one, draw("tfmr.h.1.mlp.c_fc.weight", tensor, seed=0))


def test_draws_are_the_same_bits_everywhere() -> None:
    """Recorded tensors elsewhere in the tests were made from weights with these bits."""
    values = near_normal("key", 300_000)
    assert values[:3].tolist() == [-27400.0, 21610.0, -78425.0]
    assert hashlib.sha256(values.tobytes()).hexdigest().startswith("b780ba3a9f71728b")
    assert abs(values.mean() / STEPS) < 0.01
    assert abs(values.std() / STEPS - 1) < 0.01


def test_no_tensor_is_at_its_default() -> None:
    """A forgotten bias, norm, running statistic or Snake slope must change the output."""
    computed = {"tokenizer._mel_filters", "tokenizer.window"}
    for name, tensor in TENSORS.items():
        if name in computed or tensor.dtype == "I64":
            continue
        values = draw(name, tensor, seed=0)
        assert values.dtype == np.float32 and values.shape == tensor.shape, name
        assert np.all(np.isfinite(values)), name
        assert np.any(values != 0) and np.any(values != 1), name
        if values.size > 1:
            assert values.std() > 1e-3, name
        if name.endswith(("running_var", "alpha")):
            assert values.min() > 0.2, name


def test_computed_buffers_are_the_true_ones() -> None:
    filters = draw("tokenizer._mel_filters", TENSORS["tokenizer._mel_filters"], seed=0)
    # Slaney's filters have unit area over frequency, so the widest are the lowest
    assert filters.shape == (128, 201) and filters.min() == 0
    window = draw("tokenizer.window", TENSORS["tokenizer.window"], seed=0)
    assert window[0] == 0 and window[200] == 1 and window[1] == window[399]  # periodic Hann


def test_the_time_mixer_is_near_its_published_initialisation() -> None:
    name = "flow.decoder.estimator.time_embed_mixer.weight"
    mixer = draw(name, TENSORS[name], seed=0)
    assert abs(np.diagonal(mixer).mean() - 1) < 0.05
    assert 0 < np.abs(mixer[:, len(mixer) :]).mean() < 0.05


def test_the_folder_says_what_it_is(checkpoint: Path) -> None:
    values = json.loads((checkpoint / "config.json").read_text())
    assert values["trained"] is False
    assert from_json(values, absent=TURBO) == TINY
    assert "noise" in (checkpoint / "README.md").read_text()
    source = recognise(checkpoint)
    assert (source.variant, source.trained, source.config) == ("tiny", False, TINY)
    # its voices are no use to the trained model
    assert source.family not in {model.family for model in MODELS.values()}


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ModelFolderError, match="276 ids where the model has 50276"):
        synthetic.write_checkpoint(
            tmp_path / "nano", config=NANO, name="nano", tokenizer=checkpoint
        )
    assert not list(tmp_path.iterdir())


def test_a_given_tokenizer_is_copied(tmp_path: Path, checkpoint: Path) -> None:
    made = synthetic.write_checkpoint(
        tmp_path / "tiny", config=TINY, name="tiny", seed=3, tokenizer=checkpoint
    )
    assert (made / "vocab.json").read_bytes() == (checkpoint / "vocab.json").read_bytes()
    t3 = "t3_tiny_v1.safetensors"
    assert not np.array_equal(
        Reader(made / t3).read("text_emb.weight"), Reader(checkpoint / t3).read("text_emb.weight")
    )
