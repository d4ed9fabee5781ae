"""Work spread over streams and cut along time comes to what it is in one piece."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map

from mlx_audio_turbo.config import EncoderConfig, EstimatorConfig
from mlx_audio_turbo.hift.residuals import Residual
from mlx_audio_turbo.ops import blas, device, parallel
from mlx_audio_turbo.ops.blas import choose, threads
from mlx_audio_turbo.ops.layers import Conv1d
from mlx_audio_turbo.s3gen import conformer, estimator

M = TypeVar("M", bound=nn.Module)
WIDTH, TIME = 16, 45
ENCODER = EncoderConfig(width=WIDTH, heads=2, feed_forward=32, blocks=1, up_blocks=1, lookahead=3)
ESTIMATOR = EstimatorConfig(channels=WIDTH, heads=2, head_dim=8, blocks=2, mid_blocks=1, steps=2)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], None]]:
    """Turns cutting on, into pieces of seven steps on two lanes, or off."""
    previous = mx.default_device()
    mx.set_default_device(mx.cpu)
    other = mx.new_stream(mx.cpu)

    def cut(on: bool) -> None:
        streams = [mx.default_stream(mx.cpu), other] if on else [mx.default_stream(mx.cpu)]
        monkeypatch.setattr(device, "_FORCED", "0")
        monkeypatch.setattr(parallel, "lanes", lambda: streams)
        monkeypatch.setattr(parallel, "BLOCK", 7 * WIDTH if on else 1 << 40)
        monkeypatch.setattr(parallel, "MIN_LANE_VALUES", 1 if on else 1 << 40)

    yield cut
    mx.set_default_device(previous)


def randomised(module: M) -> M:
    generator = np.random.default_rng(1)

    def draw(array: mx.array) -> mx.array:
        return mx.array(generator.standard_normal(array.shape).astype(np.float32) * 0.3 + 0.1)

    module.update(tree_map(draw, module.parameters()))
    return module


MASK = mx.arange(TIME)[None] < 38


def _attention() -> Callable[[mx.array], mx.array]:
    attention = randomised(conformer.RelativeAttention(ENCODER))
    return lambda x: attention(x, conformer.relative_positions(TIME, WIDTH), MASK)


def _block() -> Callable[[mx.array], mx.array]:
    block = randomised(conformer.Block(ENCODER))
    return lambda x: block(x, conformer.relative_positions(TIME, WIDTH), None)


def _level() -> Callable[[mx.array], mx.array]:
    level = randomised(estimator.Level(WIDTH, ESTIMATOR))
    time = mx.ones((1, ESTIMATOR.time_embedding))
    return lambda x: level(x, time, MASK[:, None, None])


def _residual(dilation: int) -> Callable[[mx.array], mx.array]:
    residual = randomised(Residual(WIDTH, 11, dilation))
    return residual


@pytest.mark.parametrize(
    "make",
    [_attention, _block, _level, lambda: _residual(1), lambda: _residual(5)],
    ids=["attention", "block", "level", "residual", "dilated residual"],
)
def test_cutting_along_time_changes_nothing(
    pieces: Callable[[bool], None], make: Callable[[], Callable[[mx.array], mx.array]]
) -> None:
    function = make()
    x = mx.array(np.random.default_rng(2).standard_normal((1, TIME, WIDTH)).astype(np.float32))
    pieces(False)
    whole = np.array(function(x))
    pieces(True)
    np.testing.assert_allclose(np.array(function(x)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time", [1, 2, 6, 7, 8, 100])
def test_ranges_cover_the_whole(pieces: Callable[[bool], None], time: int) -> None:
    pieces(True)
    x = mx.arange(time)[None, :, None]
    ranges: list[tuple[int, int]] = []

    def piece(start: int, stop: int) -> mx.array:
        ranges.append((start, stop))
        return x[:, start:stop]

    assert mx.array_equal(parallel.map_ranges(piece, time, WIDTH), x)
    assert all(0 < stop - start <= 11 for start, stop in ranges)
    assert mx.array_equal(parallel.map_time(lambda part: part + 1, x), x + 1)


@pytest.mark.parametrize("time", [1, 3, 12, 45, 100])
@pytest.mark.parametrize("kernels", [((3, 1, (2, 0)),), ((11, 5, 25), (11, 1, 5)), ((7, 1, 3),)])
def test_windows_add_zeros_at_the_ends_only(
    pieces: Callable[[bool], None], kernels: tuple, time: int
) -> None:
    convolutions = [
        randomised(Conv1d(WIDTH, WIDTH, kernel, dilation=dilation, padding=padding))
        for kernel, dilation, padding in kernels
    ]
    x = mx.array(np.random.default_rng(3).standard_normal((1, time, WIDTH)).astype(np.float32))
    whole = x
    for convolution in convolutions:
        whole = convolution(whole)

    def chain(x: mx.array, *paddings: parallel.Halo) -> mx.array:
        for convolution, padding in zip(convolutions, paddings, strict=True):
            x = convolution(x, padding=padding)
        return x

    pieces(True)
    halos = [convolution.halo for convolution in convolutions]
    joined = parallel.map_windows(chain, x, *halos)
    scale = float(mx.abs(whole).max())
    np.testing.assert_allclose(np.array(joined), np.array(whole), rtol=1e-5, atol=1e-5 * scale)
    added = parallel.map_windows(chain, x, *halos, residual=True)
    np.testing.assert_array_equal(np.array(added), np.array(x + joined))


def test_one_thread_restores_the_number_of_threads() -> None:
    if not (before := _threads()):
        pytest.skip("no BLAS whose threads can be counted")
    with pytest.raises(ZeroDivisionError), blas.one_thread():
        assert _threads() == 1
        raise ZeroDivisionError
    assert _threads() == before


def test_one_thread_works_from_every_thread() -> None:
    if not (before := _threads()):
        pytest.skip("no BLAS whose threads can be counted")
    seen: list[int] = []

    def ask() -> None:
        with blas.one_thread():
            seen.extend(library.read() for library in threads.libraries())

    for _ in range(2):
        ask()
        other = threading.Thread(target=ask)
        other.start()
        other.join()
    assert len(seen) >= 4 and set(seen) == {1}
    assert _threads() == before


def test_the_last_to_leave_restores_the_threads() -> None:
    """Two models at work, one leaving before the other: each saw the other's one as what it was."""
    if not (before := _threads()):
        pytest.skip("no BLAS whose threads can be counted")
    first, second = blas.one_thread(), blas.one_thread()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _threads() == 1
    second.__exit__(None, None, None)
    assert _threads() == before


def _threads() -> int:
    if blas.library() is None:
        return 0
    loaded = choose._kept[-1]
    for name in ("MKL_Get_Max_Threads", "scipy_openblas_get_num_threads"):
        if hasattr(loaded, name):
            return loaded[name]()
    return 0
