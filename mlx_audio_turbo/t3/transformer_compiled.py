"""A transformer on a CPU by compiled kernels: what GPT-2 and Llama have in common.

Dimensions: B batch, T time, C width, D head width, V speech ids.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import mlx.nn as nn
import numpy as np

from ..config import Quantization
from ..ops import compiled
from ..ops.blas import cores
from ..ops.compiled import pieces, prompt
from ..ops.compiled import transformer as kernels
from ..ops.compiled.formats import SPAN, Format
from ..ops.compiled.matrices import Matrix
from ..ops.compiled.panels import panels_of
from ..ops.compiled.pieces import piece_count
from ..ops.compiled.tiles import COLUMNS
from .cache import KeyValueCache
from .lanes import Lanes
from .transformer_numpy import pool


@dataclass(frozen=True)
class Norm:
    """A layer norm in float32, or without ``bias`` an RMS norm."""

    weight: np.ndarray
    bias: np.ndarray | None = None

    @property
    def addresses(self) -> tuple[int, int]:
        """As the kernel's table has them."""
        return self.weight.ctypes.data, address(self.bias)


@dataclass(frozen=True)
class StoredLinear:
    """A linear layer: its weights as they are stored, and its bias in float32."""

    matrix: Matrix
    bias: np.ndarray | None = None

    @property
    def addresses(self) -> tuple[int, int, int, int]:
        """As the kernel's table has them."""
        return *self.matrix.addresses, address(self.bias)

    def part(self, some: slice) -> StoredLinear:
        """Some of the outputs."""
        return StoredLinear(self.matrix.part(some), None if self.bias is None else self.bias[some])


@dataclass(frozen=True)
class StoredLayer:
    """A layer as the kernel takes it; ``gate`` is a Llama's.

    The layers hold what the addresses in the kernel's table point to.
    """

    norms: tuple[Norm, Norm]
    query: StoredLinear
    key: StoredLinear
    value: StoredLinear
    out: StoredLinear
    enter: StoredLinear
    leave: StoredLinear
    gate: StoredLinear | None = None

    @property
    def addresses(self) -> list[int]:
        """A row of the kernel's table; keys and values are filled in for each step."""
        attention = (self.query, self.key, self.value, self.out)
        gate = (0, 0, 0, 0) if self.gate is None else self.gate.addresses
        found = [*self.norms[0].addresses]
        for layer in attention:
            found += layer.addresses
        found += [*self.norms[1].addresses, *self.enter.addresses, *gate, *self.leave.addresses]
        return [*found, 0, 0]


class CompiledTransformer:
    """The layers and the head: one call of a kernel in each thread.

    Callers of several threads take turns.
    """

    def __init__(
        self,
        layers: Sequence[StoredLayer],
        norm: Norm,
        head: StoredLinear,
        *,
        heads: int,
        eps: float,
        lanes: int,
    ):
        first = layers[0]
        width, units = first.out.matrix.outputs, first.enter.matrix.outputs
        self._layers, self._norm, self._head = layers, norm, head
        self._sizes = (width, heads, width // heads, units, head.matrix.outputs)
        self._formats = (first.query.matrix.format, head.matrix.format)
        self._eps, self._lanes = np.float32(eps), Lanes(lanes)
        self._counters, self._base = np.zeros(pieces.COUNTERS, np.int64), 0
        self._table = np.array([layer.addresses for layer in layers], np.int64)
        self._head_places = np.array([*norm.addresses, *head.matrix.addresses], np.int64)
        self._no_angles = np.empty((0, width // heads), np.float32)
        self._lock = threading.Lock()
        self._counts = kernels.piece_counts(self._sizes)
        self._buffers: _Buffers | None = None
        self._places: list[tuple[int, int]] | None = None  # of keys and values, in the table
        compile_kernels(*self._formats)

    def __call__(
        self,
        x: np.ndarray,
        cache: KeyValueCache,
        lengths: Sequence[int],
        angles: np.ndarray | None = None,
    ) -> np.ndarray:
        """Logits (B, V) of what follows the positions ``x`` (B, T, C).

        Args:
            lengths: (B,), positions of each row in the cache.
            angles: (B, T, D), cosines then sines of the angles by which queries and keys turn.
        """
        with self._lock:
            return self._logits(x, cache, lengths, angles)

    def _logits(
        self,
        x: np.ndarray,
        cache: KeyValueCache,
        lengths: Sequence[int],
        angles: np.ndarray | None,
    ) -> np.ndarray:
        cache.continue_shared()
        spans = _spans(cache, lengths)
        if x.shape[1] > 1:
            return self._several(x, cache, spans, angles)
        batch, (_, heads, head_dim, *_) = len(x), self._sizes
        places = [layer.row_in_place(batch, heads, head_dim) for layer in cache.own]
        if places != self._places:
            self._table[:, kernels.KEYS :] = self._places = places
        turns = None if angles is None else angles[:, 0]
        lanes, started = self._lanes.count(), time.perf_counter()
        logits = self._one(self._table, x[:, 0], cache, spans, turns, lanes)
        self._lanes.took(lanes, (time.perf_counter() - started) / batch)
        return logits

    def _one(
        self,
        table: np.ndarray,
        x: np.ndarray,
        cache: KeyValueCache,
        spans: np.ndarray,
        angles: np.ndarray | None,
        lanes: int,
    ) -> np.ndarray:
        """Logits (B, V) of ``x`` (B, C), the last position, after the layers of ``table``.

        Args:
            table: the last rows of the whole table.
        """
        room, before = cache.own[0].capacity, int(max(spans[:, 1]))
        sizes = (*self._sizes, len(x), cache.own[0].offset, room, before)
        buffers = self._buffers
        if buffers is None or not buffers.fit(sizes):
            self._buffers = buffers = _Buffers(sizes, self._lanes.most)
        buffers.arrays[0][: len(x)] = x
        # Threads that come late hold the arrays of their own step.
        arguments: list[Any] = [*self._formats, self._counters, self._base]
        arguments += [table, self._head_places, np.array(sizes, np.int64), self._counts]
        arguments += [spans, cache.places_before(len(x))[len(self._table) - len(table) :]]
        angles = self._no_angles if angles is None else np.ascontiguousarray(angles)
        arguments += [angles, self._eps, *buffers.arrays]
        self._run(
            kernels.step, arguments, buffers.works[:lanes], piece_count(len(table), self._counts)
        )
        logits = buffers.arrays[-1][: len(x)]
        return logits.copy() if self._head.bias is None else logits + self._head.bias

    def _several(
        self,
        x: np.ndarray,
        cache: KeyValueCache,
        spans: np.ndarray,
        angles: np.ndarray | None,
    ) -> np.ndarray:
        """Logits (B, V) of what follows several positions (B, T, C)."""
        (batch, count, width), (_, heads, head_dim, units, _) = x.shape, self._sizes
        for row, layer in zip(self._table, cache.own, strict=True):
            layer.append_in_place((batch, heads, count, head_dim))
            row[kernels.KEYS :] = layer.places
        length, room, lanes = cache.own[0].offset, cache.own[0].capacity, self._lanes.most
        sizes = (
            width,
            heads,
            head_dim,
            units,
            batch,
            count,
            length,
            room,
            int(max(spans[:, 1])),
            lanes,
        )
        self._places = None
        sizes = np.array(sizes, np.int64)
        panels = panels_of(x)
        turns = np.empty((0, 0, 0), np.float32) if angles is None else panels_of(angles)
        arguments: list[Any] = [self._formats[0], self._counters, self._base, self._table]
        counts = prompt.piece_counts(sizes)
        arguments += [sizes, counts, spans, cache.places_before(batch), turns, self._eps, panels]
        arguments += [np.empty_like(panels), np.empty_like(panels)]
        arguments += [np.empty((len(panels), units, COLUMNS), np.float32)]
        works = [np.empty(prompt.work_floats(sizes), np.float32) for _ in range(lanes)]
        self._run(prompt.prompt, arguments, works, piece_count(len(self._layers) - 1, counts))
        last = panels.reshape(batch, -1, width, COLUMNS)[:, -1, :, (count - 1) % COLUMNS]
        # Keys and values of the last layer are there; the rest of it is the last position's.
        turns = None if angles is None else angles[:, -1]
        return self._one(self._table[-1:], last, cache, spans, turns, lanes)

    def _run(
        self, kernel: compiled.Kernel, arguments: list[Any], works: Sequence[np.ndarray], count: int
    ) -> None:
        """Compute ``count`` pieces, in as many threads as there are ``works``."""
        for work in works[1:]:
            pool().submit(kernel, *arguments, work)
        kernel(*arguments, works[0])
        self._base += count
        pieces.wait(self._counters, self._base)


class _Buffers:
    """What a step of so many rows needs: the kernel's arrays, and room for each thread."""

    def __init__(self, sizes: tuple[int, ...], lanes: int):
        width, _, _, units, vocabulary, batch, *_ = self._sizes = sizes
        kept = 1 if batch == 1 else -(-batch // 4) * 4
        shapes = (width, width, width, units, vocabulary)
        self.arrays = [np.zeros((kept, size), np.float32) for size in shapes]
        self.works = [np.zeros(kernels.work_floats(sizes), np.float32) for _ in range(lanes)]

    def fit(self, sizes: tuple[int, ...]) -> bool:
        """Whether a step of these sizes fits; of one model all but rows and room are equal."""
        return self._sizes[5] == sizes[5] and all(
            held >= wanted for held, wanted in zip(self._sizes[7:], sizes[7:], strict=True)
        )


def _spans(cache: KeyValueCache, lengths: Sequence[int]) -> np.ndarray:
    """(B, 3), for the kernels: masked own positions, positions before, and their buffer's room."""
    spans = np.zeros((len(lengths), 3), np.int64)
    spans[:, 0] = cache.padding(lengths)
    if cache.before:
        spans[:, 1:] = [(each.offset, each.own[0].capacity) for each in cache.before]
    return spans


def address(array: np.ndarray | None) -> int:
    """Where an array lies; 0 for none."""
    return 0 if array is None else array.ctypes.data


def matrix(layer: nn.Linear) -> Matrix:
    """The weights of a layer that :func:`one_format` has looked at."""
    found = Matrix.of(layer)
    assert found is not None
    return found


def start_compiling(quantization: Quantization | None, floats: str, *, keep: bool = False) -> None:
    """Compile in the background what a folder of this kind needs.

    Args:
        keep: this process does not end before the code is in the cache.
    """
    head = Format(0, 0, floats)
    blocks = head
    if quantization is not None:
        blocks = Format(quantization.bits, quantization.group_size, floats)
    # Each takes about a second, and a process compiles one kernel at a time.
    prompt_job, step_job = _jobs(blocks, head)
    worker = None if cores() < 2 else 0
    compiled.in_background([step_job], name="a step of T3", worker=worker, keep=keep)
    compiled.in_background([prompt_job], name="T3's prompt", worker=None, keep=keep)


def compile_kernels(blocks: Format, head: Format) -> None:
    """Compile what layers and head of these formats need, or read it from the cache."""
    compiled.compile_jobs(_jobs(blocks, head))


def _jobs(blocks: Format, head: Format) -> tuple[compiled.Job, ...]:
    of_blocks, of_head = astuple(blocks), astuple(head)
    return compiled.Job("prompt", (of_blocks,)), compiled.Job("transformer", (of_blocks, of_head))


def fits(width: int, heads: int) -> bool:
    """Whether the kernels take a model of these sizes."""
    # Four vectors of a head's values are summed together; a span of a product has 64 inputs.
    return width // heads % (4 * kernels.WIDTH) == 0 and width % SPAN == 0


def one_format(layers: Sequence[nn.Linear], head: nn.Linear) -> bool:
    """Whether the kernels take these weights: one format in all layers."""
    found = [Matrix.of(layer) for layer in layers]
    formats = {None if each is None else each.format for each in found}
    return len(formats) == 1 and None not in formats and Matrix.of(head) is not None
