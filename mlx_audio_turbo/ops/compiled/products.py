"""Rows times a weight matrix as it is stored: quantised, half or float32.

A weight becomes a float32 in a register, is multiplied and added in float32, and is never written
back: the result is that of the expanded matrix to rounding. The sums of a row do not depend on how
many rows or outputs are computed together.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from . import vectors as v
from .formats import FLOATS, Format, FormatType
from .parts import part
from .runtime import kernel
from .words import address, entry, intrinsic

OUTPUTS = 8
"""Outputs that are computed together for one row: each is a stream of memory and a sum."""
OUTPUTS_OF = {1: OUTPUTS, 2: OUTPUTS, 4: 4} if v.WIDTH == 16 else {1: OUTPUTS, 2: 4, 4: 2}
"""The same for so many rows at a time: 16 or 8 registers hold the sums."""
AHEAD, LINE = 768, 64
"""Bytes of each stream to ask for in advance, and those that come with one request."""


@intrinsic
def _product(
    typing: Any,
    format: Any,
    columns: Any,
    weights: Any,
    scales: Any,
    biases: Any,
    inputs: Any,
    x: Any,
    x_stride: Any,
    outputs: Any,
    y: Any,
    y_stride: Any,
) -> Any:
    """``outputs`` elements of y (columns, ...) = x (columns, inputs) times the weights.

    ``columns`` is a tuple as long as there are rows of x. Scales and biases are float32.
    """
    if not isinstance(format, FormatType):
        return None
    stored, rows = format.format, len(columns)
    block = OUTPUTS_OF[rows]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, _, weights, scales, biases, inputs, x, x_stride, outputs, y, y_stride = arguments
        code = _Generator(builder, stored, inputs)
        last = builder.sub(outputs, v.I64(block))
        with cgutils.for_range_slice(builder, v.I64(0), outputs, v.I64(block), v.I64) as (some, _):
            # The last block may repeat some of the one before it.
            first = builder.select(builder.icmp_signed("<", some, last), some, last)
            sums = code.block(first, block, rows, weights, scales, biases, x, x_stride)
            for i, of_output in enumerate(sums):
                place = builder.mul(v.at(builder, first, i), v.I64(4))
                for j, each in enumerate(of_output):
                    row = builder.mul(y_stride, v.I64(j))
                    address = builder.add(y, builder.add(place, row))
                    v.store(builder, v.total(builder, builder.load(each)), address)
        return context.get_dummy_value()

    return types.void(format, columns, *[types.int64] * 9), generate


class _Generator:
    """The code of one product."""

    def __init__(self, builder: Any, format: Format, inputs: Any):
        self._builder, self._format = builder, format
        self._spans = builder.udiv(inputs, v.I64(format.span))
        self._bytes = format.bytes(format.span)
        self._row = builder.mul(self._spans, v.I64(self._bytes))

    def block(
        self,
        first: Any,
        count: int,
        rows: int,
        weights: Any,
        scales: Any,
        biases: Any,
        x: Any,
        x_stride: Any,
    ) -> list[list[Any]]:
        """The places of the sums, vectors, of ``count`` outputs from ``first``, for each row."""
        builder, span = self._builder, self._format.span
        sums = [[cgutils.alloca_once(builder, v.VECTOR) for _ in range(rows)] for _ in range(count)]
        for each in chain(*sums):
            builder.store(v.filled(0), each)
        outputs = [v.at(builder, first, i) for i in range(count)]
        streams = [builder.add(weights, builder.mul(each, self._row)) for each in outputs]
        groups = [builder.mul(builder.mul(each, self._spans), v.I64(4)) for each in outputs]
        columns = [builder.add(x, builder.mul(x_stride, v.I64(i))) for i in range(rows)]
        with cgutils.for_range(builder, self._spans, intp=v.I64) as loop:
            offset = builder.mul(loop.index, v.I64(self._bytes))
            ahead = self._ahead(offset, count)
            column = builder.mul(loop.index, v.I64(span * 4))
            inputs = [
                [
                    v.load(builder, v.at(builder, builder.add(each, column), 4 * i), v.VECTOR)
                    for i in range(0, span, v.WIDTH)
                ]
                for each in columns
            ]
            group = builder.mul(loop.index, v.I64(4))
            for output in range(count):
                for line in range(0, self._bytes, LINE):
                    v.prefetch(builder, v.at(builder, builder.add(streams[output], ahead), line))
                place = builder.add(groups[output], group)
                stream = builder.add(streams[output], offset)
                found = self.weights(stream, scales, biases, place)
                for i, weight in enumerate(found):
                    for row in range(rows):
                        place = sums[output][row]
                        added = v.fma(builder, weight, inputs[row][i], builder.load(place))
                        builder.store(added, place)
        return sums

    def _ahead(self, offset: Any, count: int) -> Any:
        """Where a stream is read after ``AHEAD`` more bytes, in the next block behind its row."""
        builder = self._builder
        ahead = v.at(builder, offset, AHEAD)
        beyond = builder.icmp_signed(">=", ahead, self._row)
        skipped = builder.mul(self._row, v.I64(count - 1))
        return builder.add(ahead, builder.select(beyond, skipped, v.I64(0)))

    def weights(self, address: Any, scales: Any, biases: Any, group: Any) -> list[Any]:
        """The weights of one span as float32 vectors; ``group`` is the place of its scale."""
        builder, format = self._builder, self._format
        if not format.bits:
            size = FLOATS[format.floats]
            return [
                v.widened(builder, v.at(builder, address, size * i), format.floats)
                for i in range(0, format.span, v.WIDTH)
            ]
        step = v.WIDTH * (2 if format.bits == 4 else 1)
        found = []
        for i in range(0, format.span, step):
            found += self._codes(v.at(builder, address, i * format.bits // 8))
        scale, bias = (
            v.repeated(builder, v.load(builder, builder.add(each, group), v.FLOAT))
            for each in (scales, biases)
        )
        found = [builder.sitofp(codes, v.VECTOR) for codes in found]
        return [v.fma(builder, each, scale, bias) for each in found]

    def _codes(self, address: Any) -> list[Any]:
        """The codes at ``address`` as vectors of integers: two of 4 bits, one of 6 or 8."""
        builder, bits = self._builder, self._format.bits
        size = v.WIDTH * 6 // 8 if bits == 6 else v.WIDTH
        bytes = v.load(builder, address, ir.VectorType(v.I8, size))
        if bits != 6:
            wide = builder.zext(bytes, v.INTEGERS)
            if bits == 8:
                return [wide]
            low = builder.and_(wide, v.filled(15, v.INTEGERS))
            return [low, builder.lshr(wide, v.filled(4, v.INTEGERS))]
        # Each code lies in one byte, or in it and the next one.
        starts = [6 * i // 8 for i in range(v.WIDTH)]
        pairs = [each for start in starts for each in (start, min(start + 1, size - 1))]
        both = builder.bitcast(v.shuffled(builder, bytes, pairs), ir.VectorType(v.I16, v.WIDTH))
        shifts = ir.Constant(v.INTEGERS, [6 * i % 8 for i in range(v.WIDTH)])
        shifted = builder.lshr(builder.zext(both, v.INTEGERS), shifts)
        return [builder.and_(shifted, v.filled(63, v.INTEGERS))]


@intrinsic
def _widen(typing: Any, format: Any, source: Any, target: Any, count: Any) -> Any:
    """Write ``count`` of a quantised format's scales or biases as float32."""
    stored = format.format
    size = FLOATS[stored.floats]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, source, target, count = arguments
        whole = builder.and_(count, v.I64(-v.WIDTH))

        def copy(first: Any, number: int) -> None:
            place = builder.add(source, builder.mul(first, v.I64(size)))
            wide = v.widened(builder, place, stored.floats, number)
            v.store(builder, wide, builder.add(target, builder.mul(first, v.I64(4))))

        if stored.bits:
            step, one = v.I64(v.WIDTH), v.I64(1)
            with cgutils.for_range_slice(builder, v.I64(0), whole, step, v.I64) as (first, _):
                copy(first, v.WIDTH)
            with cgutils.for_range_slice(builder, whole, count, one, v.I64) as (first, _):
                copy(first, 1)
        return context.get_dummy_value()

    return types.void(format, *[types.int64] * 3), generate


@part
def _widened(format, scales, biases, first, count, scratch):  # pyright: ignore
    """Addresses of ``count`` scales and biases from ``first``, as float32."""
    scales += first * format.float_bytes
    biases += first * format.float_bytes
    if format.float_bytes == 4 or format.bits == 0:
        return scales, biases
    _widen(format, scales, scratch, count)
    _widen(format, biases, scratch + 4 * count, count)
    return scratch, scratch + 4 * count


@part
def multiply(format, matrix, inputs, first, outputs, rows, x, x_stride, y, y_stride, scratch):  # pyright: ignore
    """y (rows, outputs) = x (rows, inputs) times the outputs from ``first`` of a matrix.

    x, y and the matrix are addresses, the strides bytes; a matrix is a table of the addresses of
    weights, scales and biases. x has the order of :func:`ordered`. Where there are several rows, x
    and y have room for a multiple of four. ``outputs`` is at least 8. ``scratch`` has room for two
    values a group.
    """
    weights, scales, biases = entry(matrix, 0), entry(matrix, 1), entry(matrix, 2)
    spans = inputs // format.span
    weights += first * spans * format.span_bytes
    scales, biases = _widened(format, scales, biases, first * spans, outputs * spans, scratch)
    if rows == 1:
        _product(format, (0,), weights, scales, biases, inputs, x, x_stride, outputs, y, y_stride)
    else:
        for row in range(0, rows, 4):
            some_x, some_y = x + row * x_stride, y + row * y_stride
            if rows - row <= 2:
                _product(
                    format, (0, 0), weights, scales, biases, inputs,
                    some_x, x_stride, outputs, some_y, y_stride,
                )  # fmt: skip
            else:
                _product(
                    format, (0, 0, 0, 0), weights, scales, biases, inputs,
                    some_x, x_stride, outputs, some_y, y_stride,
                )  # fmt: skip


@intrinsic
def _expand(
    typing: Any, format: Any, weights: Any, scales: Any, biases: Any, spans: Any, y: Any
) -> Any:
    """Write ``spans`` spans of weights to y as float32; scales and biases are float32."""
    stored = format.format

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, weights, scales, biases, spans, y = arguments
        code = _Generator(builder, stored, spans)
        with cgutils.for_range(builder, spans, intp=v.I64) as loop:
            place = builder.mul(loop.index, v.I64(stored.bytes(stored.span)))
            group = builder.mul(loop.index, v.I64(4))
            found = code.weights(builder.add(weights, place), scales, biases, group)
            target = builder.add(y, builder.mul(loop.index, v.I64(4 * stored.span)))
            for i, each in enumerate(_natural(builder, found, stored)):
                v.store(builder, each, v.at(builder, target, 4 * v.WIDTH * i))
        return context.get_dummy_value()

    return types.void(format, *[types.int64] * 5), generate


def _natural(builder: Any, vectors: list[Any], format: Format) -> list[Any]:
    """The weights of a span in their own order."""
    if format.bits != 4:
        return vectors
    made = []
    for even, odd in zip(vectors[::2], vectors[1::2], strict=True):
        pairs = [each for i in range(v.WIDTH) for each in (i, v.WIDTH + i)]
        for some in (pairs[: v.WIDTH], pairs[v.WIDTH :]):
            mask = ir.Constant(ir.VectorType(v.I32, v.WIDTH), some)
            made.append(builder.shuffle_vector(even, odd, mask))
    return made


@intrinsic
def ordered(typing: Any, pairs: Any, x: Any, y: Any, count: Any) -> Any:
    """Write ``count`` values at x to y in the order in which a product reads them.

    Codes of 4 bits lie in ``pairs``: the even inputs of a block come first, then the odd ones.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs, x, y, count = arguments
        none, end, both = v.I64(0), builder.mul(count, v.I64(4)), v.I64(8 * v.WIDTH)
        with builder.if_else(pairs) as (in_pairs, plain):
            with in_pairs, cgutils.for_range_slice(builder, none, end, both, v.I64) as (at, _):
                place = builder.add(x, at)
                values = v.load(builder, place, ir.VectorType(v.FLOAT, 2 * v.WIDTH))
                for first in (0, 1):
                    target = v.at(builder, builder.add(y, at), 4 * v.WIDTH * first)
                    some = v.shuffled(builder, values, range(first, 2 * v.WIDTH, 2))
                    v.store(builder, some, target)
            with (
                plain,
                cgutils.for_range_slice(builder, none, end, v.I64(4 * v.WIDTH), v.I64) as (at, _),
            ):
                value = v.load(builder, builder.add(x, at), v.VECTOR)
                v.store(builder, value, builder.add(y, at))
        return context.get_dummy_value()

    return types.void(types.boolean, *[types.int64] * 3), generate


@part
def expand_rows(format, matrix, inputs, first, outputs, start, count, scratch):  # pyright: ignore
    """Write ``count`` inputs from ``start`` of the outputs from ``first`` as float32 to scratch.

    Both are multiples of the format's span. Behind them ``scratch`` has room for two values a group
    of these outputs.
    """
    spans, part, skip = inputs // format.span, count // format.span, start // format.span
    weights, scales, biases = entry(matrix, 0), entry(matrix, 1), entry(matrix, 2)
    weights += first * spans * format.span_bytes
    room = scratch + 4 * outputs * count
    scales, biases = _widened(format, scales, biases, first * spans, outputs * spans, room)
    for row in range(outputs):
        place = row * spans + skip
        _expand(
            format, weights + place * format.span_bytes, scales + 4 * place, biases + 4 * place,
            part, scratch + 4 * row * count,
        )  # fmt: skip


@kernel()
def product(format, matrix, inputs, outputs, rows, x, ordered_x, y, scratch):  # pyright: ignore
    """The rows of y (rows, outputs) = x (rows, inputs) times a whole matrix, on one thread.

    Of several rows each array has room for a multiple of four.
    """
    source, found, row = address(ordered_x), address(y), 4 * inputs
    for i in range(rows):
        ordered(format.bits == 4, address(x) + i * row, source + i * row, inputs)
    room = address(scratch)
    table = address(matrix)
    multiply(format, table, inputs, 0, outputs, rows, source, row, found, 4 * outputs, room)
