"""Our reader and writer against the format's own library, and against damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo_convert.safetensors_writer import (
    DTYPES,
    MAX_HEADER,
    Reader,
    Tensor,
    from_bfloat16,
    to_bfloat16,
    write,
)
from tests.measure.stress import headers

ARRAYS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(3, np.int64),
    "": np.ones((2, 2), np.float16),
    "empty": np.zeros((0, 4), np.float32),
    "ü": np.array([True, False, True]),
}


def described(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    kinds = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}
    return {name: Tensor(kinds[array.dtype], array.shape) for name, array in arrays.items()}


def test_written_files_are_the_library_s_own(tmp_path: Path) -> None:
    """Byte for byte, so that sizes and hashes can be compared."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write(ours, described(ARRAYS), reversed(ARRAYS.items()))
    save_file(ARRAYS, theirs)
    assert ours.read_bytes() == theirs.read_bytes()


def test_reading_what_the_library_wrote(tmp_path: Path) -> None:
    save_file(ARRAYS, tmp_path / "file", {"format": "pt"})
    reader = Reader(tmp_path / "file")
    assert reader.metadata == {"format": "pt"}
    assert reader.tensors == described(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(reader.read(name), array, strict=True)


def test_metadata_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "file", {}, [], metadata={"format": "mlx"})
    assert Reader(tmp_path / "file").metadata == {"format": "mlx"}
    assert load_file(tmp_path / "file") == {}


def test_bfloat16_rounds_half_to_even(tmp_path: Path) -> None:
    import mlx.core as mx

    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    values[:2] = 1 + 2.0**-8, 1 + 3 * 2.0**-8  # halfway, to 1 and to 1 + 2 ** -6
    expected = np.array(mx.array(values).astype(mx.bfloat16).astype(mx.float32))
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(values)), expected)
    write(tmp_path / "f", {"x": Tensor("BF16", (1000,))}, [("x", to_bfloat16(values))])
    np.testing.assert_array_equal(Reader(tmp_path / "f").read("x"), expected)


@pytest.mark.parametrize(
    "arrays",
    [
        [("x", np.zeros(3, np.float32))],
        [("x", np.zeros(2, np.float16))],
        [("y", np.zeros(2, np.float32))],
        [("x", np.zeros(2, np.float32))] * 2,
        [],
    ],
)
def test_writing_something_else_leaves_no_file(
    tmp_path: Path, arrays: list[tuple[str, np.ndarray]]
) -> None:
    with pytest.raises(ValueError, match=r"'[xy]'"):
        write(tmp_path / "file", {"x": Tensor("F32", (2,))}, arrays)
    assert not list(tmp_path.iterdir())


def file_of(header: Any, data: int = 8, *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data)


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


FAULTS = {
    "empty": b"",
    "seven bytes": bytes(7),
    "header beyond the file": file_of({"x": entry()}, length=1000),
    "header beyond the limit": file_of({"x": entry()}, length=MAX_HEADER + 1),
    "header beyond all limits": file_of({"x": entry()}, length=2**64 - 1),
    "no JSON": file_of(b"{not json"),
    "no UTF-8": file_of(b'{"\xff": 1}'),
    "deep": file_of(b"[" * 100_000),
    "deep object": file_of(b'{"a":' * 100_000),
    "a list": file_of([1]),
    "a number": file_of(3),
    "not a number": file_of(b'{"x": NaN}'),
    "named twice": file_of(
        b'{"x": {"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"x": {"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    ),
    "metadata not of strings": file_of({"__metadata__": {"a": 1}, "x": entry()}),
    "metadata no object": file_of({"__metadata__": [], "x": entry()}),
    "entry null": file_of({"x": None}),
    "entry without shape": file_of({"x": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "entry with more": file_of({"x": {**entry(), "stride": [1]}}),
    "unknown dtype": file_of({"x": entry("F8_E5M2", (8,))}),
    "dtype a list": file_of({"x": entry(["F32"])}),
    "dtype null": file_of({"x": entry(None)}),
    "negative size": file_of({"x": entry(shape=(-1, -2))}),
    "size a float": file_of({"x": entry(shape=(2.0,))}),
    "size a bool": file_of({"x": entry("F64", shape=(True,))}),
    "shape a number": file_of({"x": entry(shape=2)}),
    "shape too long": file_of({"x": entry(shape=(1,) * 64 + (2,))}),
    "impossible empty shape": file_of({"x": entry(shape=(0, 2**60, 2**60), offsets=(0, 0))}, 0),
    "a number of 5000 digits": file_of(b'{"x": ' + b"9" * 5000 + b"}"),
    "shape disagrees": file_of({"x": entry(shape=(3,))}),
    "offsets backward": file_of({"x": entry(shape=(0,), offsets=(8, 0))}),
    "three offsets": file_of({"x": entry(offsets=(0, 8, 8))}),
    "negative offset": file_of({"x": entry(offsets=(-8, 0))}),
    "gap at the start": file_of({"x": entry(offsets=(8, 16))}, 16),
    "gap": file_of({"x": entry(), "y": entry(offsets=(16, 24))}, 24),
    "overlap": file_of({"x": entry(), "y": entry(offsets=(4, 12))}, 12),
    "same place": file_of({"x": entry(), "y": entry()}),
    "cut short": file_of({"x": entry()}, 7),
    "appended": file_of({"x": entry()}, 9),
}


@pytest.mark.parametrize("content", FAULTS.values(), ids=FAULTS.keys())
def test_damage_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFolderError) as caught:
        Reader(path, remedy="fetch it with: command")
    message = str(caught.value)
    assert str(path) in message and message.endswith("fetch it with: command")
    assert "\n" not in message and len(message) < len(str(path)) + 300


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="cannot be read: No such file"):
        Reader(tmp_path / "absent")
    with pytest.raises(ModelFolderError, match="cannot be read: Is a directory"):
        Reader(tmp_path)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    """A thousand edits of headers; neither a crash nor another kind of error."""
    outcome = headers.check(1000, tmp_path)
    assert outcome["refused"] > 1000 and outcome["read"] > 10


def test_a_tensor_that_starts_at_an_odd_place(tmp_path: Path) -> None:
    """Other writers need not pad the header."""
    text = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} '
    path = tmp_path / "file"
    for pad in range(8):
        padded = text + b" " * pad
        data = np.array([1.5, -2.0], np.float32).tobytes()
        path.write_bytes(len(padded).to_bytes(8, "little") + padded + data)
        assert Reader(path).read("x").tolist() == [1.5, -2.0]
