"""Mutated safetensors headers: each is read or refused by name, fast and in little memory.

    python -m tests.measure.stress.headers --count 100000

Every mutant goes through the reader, through the loading of a model's weights, and through the
loading of a voice. Anything but a correct load or an error of ours ends the run, and so does a
mutant that takes more than a second or a process that grows over 1 GB.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from safetensors.numpy import save_file

from mlx_audio_turbo.errors import ModelFolderError, VoiceError
from mlx_audio_turbo.files.safetensors_reader import Reader
from mlx_audio_turbo.loading.weights import load_weights, open_weights
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo.voice import Voice
from mlx_audio_turbo_convert.synthetic import voice as stand_ins

SECONDS, BYTES = 1.0, 1_000_000_000
_NUMBERS = (0, 1, -1, 3, 7, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), 1e300, 0.5, True)
_ODD: tuple[Any, ...] = (None, "", "F32", [], {}, [[]], "\x00", "é", [1, 2, 3], {"a": 1}, *_NUMBERS)
_DTYPES = ("F32", "F16", "BF16", "F64", "I64", "U8", "BOOL", "F8_E4M3", "C64", "f32", "", "U32")
_NAMES = ("", "weight", "__metadata__", "a.weight", "\x00", "ü" * 100, "x" * 10_000, "a", "b.bias")


class Small(nn.Module):
    """As few parameters as make a model folder's file."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 2), nn.Linear(2, 4, bias=False)


_SMALL = Small()
_FLAT: Any = tree_flatten(_SMALL.parameters())
_STORED = {name: tuple(array.shape) for name, array in _FLAT}


def originals(place: Path) -> tuple[bytes, bytes]:
    """A file of :class:`Small`, and one of a voice."""
    arrays = {name: np.zeros(shape, np.float32) for name, shape in _STORED.items()}
    save_file(arrays, place / "weights")
    stand_ins.voice(TINY, family="family").save(place / "voice")
    return (place / "weights").read_bytes(), (place / "voice").read_bytes()


def mutant(whole: bytes, chance: random.Random) -> bytes:
    """``whole`` with one to three changes, of bytes or of what the header says."""
    for _ in range(chance.randint(1, 3)):
        whole = chance.choice(_CHANGES)(whole, chance)
    return whole


def _flip(whole: bytes, chance: random.Random) -> bytes:
    out = bytearray(whole)
    end = min(len(out), 8 + int.from_bytes(out[:8], "little"))
    if end:
        out[chance.randrange(end)] = chance.randrange(256)
    return bytes(out)


def _length(whole: bytes, chance: random.Random) -> bytes:
    length = int.from_bytes(whole[:8], "little")
    odd = (0, 1, 2**63, 2**64 - 1, 100_000_000, 100_000_001, len(whole), length + 1, length - 1)
    return (chance.choice(odd) % 2**64).to_bytes(8, "little") + whole[8:]


def _cut(whole: bytes, chance: random.Random) -> bytes:
    return whole[: chance.randrange(len(whole) + 1)]


def _grow(whole: bytes, chance: random.Random) -> bytes:
    return whole + bytes(chance.choice((1, 8, 1000)))


def _splice(whole: bytes, chance: random.Random) -> bytes:
    place, size = chance.randrange(len(whole) + 1), chance.randint(1, 30)
    if chance.random() < 0.5:
        return whole[:place] + whole[place + size :]
    return whole[:place] + whole[place // 2 : place // 2 + size] + whole[place:]


def _deep(whole: bytes, chance: random.Random) -> bytes:
    open_, close = chance.choice((("[", "]"), ('{"a":', "}")))
    depth = chance.choice((10, 1_000, 100_000))
    return _with(whole, (open_ * depth + "1" + close * depth).encode())


def _digits(whole: bytes, chance: random.Random) -> bytes:
    text = _text(whole)
    place = chance.randrange(len(text) + 1)
    return _with(whole, text[:place] + b"9" * chance.choice((20, 5_000, 100_000)) + text[place:])


def _twice(whole: bytes, chance: random.Random) -> bytes:
    text = _text(whole).strip()
    return _with(whole, text[:-1] + b"," + text[1:])


def _fields(whole: bytes, chance: random.Random) -> bytes:
    """Change what the header says, as JSON that still is one."""
    try:
        header = json.loads(_text(whole))
        name = chance.choice(list(header))
        entry = header[name]
        kind = chance.randrange(7)
        if kind == 0:
            header[chance.choice(_NAMES)] = header.pop(name)
        elif kind == 1:
            header[name] = chance.choice(_ODD)
        elif kind == 2:
            entry[chance.choice(("dtype", "shape", "data_offsets", "other"))] = chance.choice(_ODD)
        elif kind == 3:
            entry["dtype"] = chance.choice(_DTYPES)
        elif kind == 4:
            shape = entry["shape"]
            shape.insert(chance.randrange(len(shape) + 1), chance.choice(_NUMBERS))
        elif kind == 5:
            entry["data_offsets"][chance.randrange(2)] = chance.choice(_NUMBERS)
        else:
            header[chance.choice(_NAMES)] = chance.choice(list(header.values()))
        return _with(whole, json.dumps(header).encode("utf-8", "surrogatepass"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _flip(whole, chance)  # an earlier change left nothing to change


_CHANGES = (_flip, _flip, _length, _cut, _grow, _splice, _deep, _digits, _twice) + (_fields,) * 9


def _text(whole: bytes) -> bytes:
    return whole[8 : 8 + int.from_bytes(whole[:8], "little")]


def _with(whole: bytes, text: bytes) -> bytes:
    return len(text).to_bytes(8, "little") + text + whole[8 + len(_text(whole)) :]


def read(path: Path) -> None:
    """Every tensor, by the reader."""
    reader = Reader(path)
    for name in reader.tensors:
        reader.read(name)


def read_weights(path: Path) -> None:
    """As a model folder's."""
    load_weights(_SMALL, open_weights(path, _STORED), dtype=mx.float32)


def check(count: int, place: Path, *, seed: int = 0) -> Counter[str]:
    """Try ``count`` mutants; gives how many were read and refused, and the longest time.

    Raises:
        AssertionError: a mutant took too long, or the process grew too large.
    """
    chance = random.Random(seed)
    weights, voice = originals(place)
    path = place / "mutant.safetensors"
    outcome: Counter[str] = Counter()
    before = _most_memory()
    for index in range(count):
        of_a_voice = index % 4 == 3
        path.write_bytes(mutant(voice if of_a_voice else weights, chance))
        for way in (read, Voice.load if of_a_voice else read_weights):
            started = time.perf_counter()
            try:
                way(path)
                outcome["read"] += 1
            except (ModelFolderError, VoiceError) as error:
                assert "\n" not in str(error), error
                outcome["refused"] += 1
            took = time.perf_counter() - started
            assert took < SECONDS, f"mutant {index} took {took:.1f} s in {way.__qualname__}"
            outcome["longest_ms"] = max(outcome["longest_ms"], round(1000 * took))
    grown = _most_memory() - before
    assert grown < BYTES, f"the process grew by {grown} bytes"
    outcome["grown_mb"] = grown // 1_000_000
    return outcome


def _most_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Read mutated safetensors headers.")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        outcome = check(args.count, Path(place), seed=args.seed)
    print(
        f"{args.count} mutants: {outcome['read']} loads, {outcome['refused']} refusals, "
        f"the slowest {outcome['longest_ms']} ms, memory grown by {outcome['grown_mb']} MB"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
