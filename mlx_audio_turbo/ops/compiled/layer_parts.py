"""What a transformer does between products, for one row at a time: norms, attention, activations.

All arguments but counts and eps are addresses of float32 values.
"""

from __future__ import annotations

import numpy as np

from .products import ordered
from .words import (
    WIDTH,
    add,
    divide,
    exp,
    filled,
    fma,
    larger,
    largest,
    load,
    load_one,
    part,
    scalar_products,
    store,
    subtract,
    times,
    total,
)

STEP = 4 * WIDTH
"""Bytes of a vector."""


@part
def norm(format, x, weight, bias, eps, count, y, spare):  # pyright: ignore
    """y = the norm of ``count`` values at x, in the order of the format.

    It is a layer norm, or an RMS norm where ``bias`` is 0.
    """
    mean = filled(np.float32(0))
    if bias != 0:
        sums = filled(np.float32(0))
        for i in range(0, 4 * count, STEP):
            sums = add(sums, load(x + i))
        mean = filled(total(sums) / np.float32(count))
    squares = filled(np.float32(0))
    for i in range(0, 4 * count, STEP):
        centred = subtract(load(x + i), mean)
        squares = fma(centred, centred, squares)
    spread = np.sqrt(total(squares) / np.float32(count) + eps)
    scale = filled(np.float32(1) / spread)
    target = spare if format.bits == 4 else y
    for i in range(0, 4 * count, STEP):
        centred = times(subtract(load(x + i), mean), scale)
        if bias != 0:
            store(fma(centred, load(weight + i), load(bias + i)), target + i)
        else:
            store(times(centred, load(weight + i)), target + i)
    if format.bits == 4:
        ordered(format, spare, y, count)


@part
def attend(q, keys, values, counts, width, y, scores):  # pyright: ignore
    """y (D,) = attention of q (D,) to all positions.

    keys, values: two addresses each, one position behind the other (L, D), of which ``counts`` has
        the numbers.
    scores: room for all positions and WIDTH values.

    A row of q is scaled already.
    """
    row, count = 4 * width, 0
    for side in range(2):
        target, whole = scores + 4 * count, counts[side] // WIDTH * WIDTH
        for position in range(0, whole, WIDTH):
            place = keys[side] + position * row
            store(scalar_products(q, place, row, row), target + 4 * position)
        for position in range(whole, counts[side]):
            key = keys[side] + position * row
            sums = filled(np.float32(0))
            for i in range(0, row, STEP):
                sums = fma(load(q + i), load(key + i), sums)
            store(total(sums), target + 4 * position)
        count += counts[side]
    end = scores + 4 * count
    for i in range(WIDTH):
        store(np.float32(-1e30), end + 4 * i)
    highest = load(scores)
    for i in range(STEP, 4 * count, STEP):
        highest = larger(load(scores + i), highest)
    most = filled(largest(highest))
    sums = filled(np.float32(0))
    for i in range(0, 4 * count, STEP):
        weight = exp(subtract(load(scores + i), most))
        store(weight, scores + i)
        sums = add(sums, weight)
    share = filled(np.float32(1) / total(sums))
    for i in range(0, row, 4 * STEP):
        a, b, c, d = (
            filled(np.float32(0)),
            filled(np.float32(0)),
            filled(np.float32(0)),
            filled(np.float32(0)),
        )
        at = scores
        for side in range(2):
            for position in range(counts[side]):
                weight = filled(load_one(at + 4 * position))
                value = values[side] + position * row + i
                a = fma(weight, load(value), a)
                b = fma(weight, load(value + STEP), b)
                c = fma(weight, load(value + 2 * STEP), c)
                d = fma(weight, load(value + 3 * STEP), d)
            at += 4 * counts[side]
        store(times(a, share), y + i)
        store(times(b, share), y + i + STEP)
        store(times(c, share), y + i + 2 * STEP)
        store(times(d, share), y + i + 3 * STEP)


@part
def rotate(x, angles, count):  # pyright: ignore
    """Turn the pairs (i, i + count / 2) at x, by cosines at ``angles`` and sines behind them."""
    half = 2 * count
    for i in range(0, half, STEP):
        a, b = load(x + i), load(x + half + i)
        cosine, sine = load(angles + i), load(angles + half + i)
        store(subtract(times(a, cosine), times(b, sine)), x + i)
        store(add(times(b, cosine), times(a, sine)), x + half + i)


@part
def copied(x, count, y):  # pyright: ignore
    """y = x."""
    for i in range(0, 4 * count, STEP):
        store(load(x + i), y + i)


@part
def scaled(x, bias, factor, count, y):  # pyright: ignore
    """y = (x + bias) * factor; a ``bias`` of 0 is none."""
    factors = filled(factor)
    for i in range(0, 4 * count, STEP):
        value = load(x + i)
        if bias != 0:
            value = add(value, load(bias + i))
        store(times(value, factors), y + i)


@part
def added(x, bias, count, y):  # pyright: ignore
    """y += x + bias; a ``bias`` of 0 is none."""
    for i in range(0, 4 * count, STEP):
        value = load(x + i)
        if bias != 0:
            value = add(value, load(bias + i))
        store(add(value, load(y + i)), y + i)


@part
def gelu(x, bias, count):  # pyright: ignore
    """The tanh form of GELU of ``count`` values at x plus those at ``bias``, in place.

    A ``bias`` of 0 is none.
    """
    one = filled(np.float32(1))
    # x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x ** 3).
    slope, cubic = filled(np.float32(-1.5957691216057308)), filled(np.float32(-0.07135481282553))
    for i in range(0, 4 * count, STEP):
        value = load(x + i)
        if bias != 0:
            value = add(value, load(bias + i))
        u = times(fma(times(value, value), cubic, slope), value)
        store(divide(value, add(one, exp(u))), x + i)


@part
def swiglu(x, gate, count):  # pyright: ignore
    """x *= SiLU(gate)."""
    one, zero = filled(np.float32(1)), filled(np.float32(0))
    for i in range(0, 4 * count, STEP):
        value = load(gate + i)
        y = times(load(x + i), value)
        store(divide(y, add(one, exp(subtract(zero, value)))), x + i)
