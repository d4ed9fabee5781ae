"""Sampling: order and thresholds of the filters, the penalty, randomness by key."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.options import SamplingOptions
from mlx_audio_turbo.t3.sampling import (
    add_to_history,
    filter_logits,
    min_p,
    repetition_penalty,
    sample,
    temperature,
    top_p,
)
from mlx_audio_turbo.t3.sampling_numpy import Noise, choose, filter_scores
from mlx_audio_turbo.t3.turbo import TurboT3

FILTERS = TurboT3.filters
OFF: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}


def scores(logits: list[float], history: tuple[int, ...] = (), **options: Any) -> np.ndarray:
    marks = np.zeros((1, len(logits)), bool)
    marks[0, list(history)] = True
    chosen = SamplingOptions(**(OFF | options))
    return np.array(filter_logits(mx.array([logits]), mx.array(marks), chosen, FILTERS)[0])


def kept(*args: Any, **options: Any) -> list[int]:
    return np.flatnonzero(np.isfinite(scores(*args, **options))).tolist()


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_the_defaults_are_the_reference_s() -> None:
    assert SamplingOptions() == SamplingOptions(
        temperature=0.8, top_k=1000, top_p=0.95, repetition_penalty=1.2
    )


def test_everything_off_leaves_the_logits_alone() -> None:
    logits = [0.5, -1.0, 2.0, 0.0]
    assert scores(logits).tolist() == logits


def test_top_k_keeps_what_ties_with_the_last() -> None:
    assert kept([1.0, 3.0, 2.0, 2.0, 2.0, 0.0], top_k=2) == [1, 2, 3, 4]
    assert kept([1.0, 3.0, 2.0, 2.5, 2.0, 0.0], top_k=2) == [1, 3]


@pytest.mark.parametrize("top_k", [0, 4, 1000])
def test_top_k_of_none_or_more_than_there_are_keeps_all(top_k: int) -> None:
    assert kept([4.0, 3.0, 2.0, 1.0], top_k=top_k) == [0, 1, 2, 3]


def test_top_p_removes_what_lies_under_the_rest() -> None:
    logits = logs(0.05, 0.5, 0.15, 0.3)
    assert kept(logits, top_p=0.951) == [0, 1, 2, 3]
    assert kept(logits, top_p=0.94) == [1, 2, 3]
    assert kept(logits, top_p=0.81) == [1, 2, 3]
    assert kept(logits, top_p=0.79) == [1, 3]


def test_top_p_keeps_at_least_one() -> None:
    assert kept(logs(0.2, 0.5, 0.3), top_p=1e-9) == [1]


def test_top_p_counts_in_what_top_k_has_left() -> None:
    """The second token is 0.24 of everything, and 0.316 of the two that top-k keeps."""
    logits = logs(0.24, 0.52, 0.08, 0.08, 0.08)
    assert kept(logits, top_p=0.68) == [0, 1]
    assert kept(logits, top_k=2, top_p=0.68) == [1]


def test_temperature_comes_before_top_p() -> None:
    logits = logs(0.1, 0.9)
    assert kept(logits, top_p=0.95) == [0, 1]
    assert kept(logits, top_p=0.95, temperature=0.5) == [1]


def test_the_penalty_divides_above_zero_and_multiplies_below() -> None:
    found = scores([2.0, -2.0, 1.0, -1.0], history=(0, 1), repetition_penalty=1.25)
    np.testing.assert_allclose(found, [1.6, -2.5, 1.0, -1.0], rtol=1e-6)


def test_the_penalty_comes_after_the_filters() -> None:
    """A history token is not pushed out of top-k or top-p by its penalty, only made less likely."""
    logits = [5.0, 4.9, 4.8, 0.0]
    found = scores(logits, history=(0,), top_k=2, repetition_penalty=2.0)
    np.testing.assert_allclose(found, [2.5, 4.9, -np.inf, -np.inf])
    assert kept(logits, history=(0,), top_p=0.3, repetition_penalty=2.0) == [0]


def test_the_penalty_comes_after_the_temperature() -> None:
    """It multiplies either way; but the temperature must not scale a penalised sign."""
    found = scores([1.0, 3.0], history=(0,), temperature=0.5, repetition_penalty=4.0)
    np.testing.assert_allclose(found, [0.5, 6.0])


def test_the_penalty_leaves_removed_tokens_removed() -> None:
    found = scores([1.0, 3.0], history=(0,), top_k=1, repetition_penalty=1.2)
    assert found[0] == -np.inf


def test_the_border_of_top_p_is_exact_among_thousands() -> None:
    """The border lies half an id's 1.5e-5 from either neighbour."""
    logits = [0.0] * 6562 + [11.0]
    share = 1 / (6562 + math.exp(11.0))
    for out in (2000, 4000, 6500):
        assert len(kept(logits, top_p=1 - (out + 0.5) * share)) == 6563 - out


def test_rows_have_a_history_and_a_border_each() -> None:
    logits = mx.array([logs(0.9, 0.06, 0.04), logs(0.04, 0.06, 0.9)])
    history = mx.array([[False, False, True], [False, False, True]])
    options = SamplingOptions(temperature=1, top_k=0, top_p=0.95, repetition_penalty=2)
    found = np.array(filter_logits(logits, history, options, FILTERS))
    np.testing.assert_allclose(found[0], [*logs(0.9, 0.06), -np.inf], rtol=1e-6)
    np.testing.assert_allclose(found[1], [-np.inf, *logs(0.06, 0.9**2)], rtol=1e-6)


def test_the_history_gains_one_id_to_each_row() -> None:
    history = add_to_history(
        add_to_history(mx.zeros((2, 4), mx.bool_), mx.array([1, 3])), mx.array([1, 0])
    )
    assert history.tolist() == [[False, True, False, False], [True, False, False, True]]


def test_draws_follow_the_distribution() -> None:
    rows = 4000
    logits = mx.broadcast_to(mx.array(logs(0.1, 0.2, 0.7)), (rows, 3))
    keys = mx.random.split(mx.random.key(3), rows)
    ids = sample(logits, mx.zeros((rows, 3), mx.bool_), SamplingOptions(**OFF), FILTERS, keys)
    shares = np.bincount(np.array(ids), minlength=3) / rows
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.7], atol=0.03)


def test_a_row_s_draw_does_not_hang_on_its_neighbours() -> None:
    logits = mx.random.normal((5, 1001), key=mx.random.key(1))
    history, keys = mx.zeros((5, 1001), mx.bool_), mx.random.split(mx.random.key(2), 5)
    together = sample(logits, history, SamplingOptions(), FILTERS, keys).tolist()
    alone = [
        int(sample(logits[i : i + 1], history[:1], SamplingOptions(), FILTERS, keys[i : i + 1]))
        for i in range(5)
    ]
    assert together == alone


def test_temperature_0_takes_the_likeliest_whatever_was_history() -> None:
    logits, history = mx.array([[1.0, 3.0, 2.9]]), mx.array([[False, True, False]])
    greedy = SamplingOptions(temperature=0)
    assert sample(logits, history, greedy, FILTERS, mx.zeros((1, 2))).tolist() == [1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("top_p", math.nan),
        ("repetition_penalty", 0.0),
        ("repetition_penalty", math.nan),
    ],
)
def test_options_out_of_range_are_one_line_errors(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=option) as caught:
        SamplingOptions(**{option: value})
    assert "\n" not in str(caught.value)


# --- in NumPy -----------------------------------------------------------------------------------

ORDERS = {"turbo": TurboT3.filters, "original": (repetition_penalty, temperature, min_p, top_p)}


def drawn(number: int) -> tuple[np.ndarray, np.ndarray, SamplingOptions]:
    """Scores (600,) with ties and removed ids, a history and options; all depend on ``number``."""
    rng = np.random.default_rng(number)
    logits = (rng.standard_normal(600) * rng.choice([1, 3, 10])).astype(np.float32)
    if number % 3 == 0:
        logits = np.round(2 * logits) / 2
    if number % 4 == 0:
        logits[rng.random(600) < 0.3] = -np.inf
    choices: dict[str, Any] = {
        "temperature": [0.8, 0.3, 1.3],
        "top_k": [100, 0, 5, 599],
        "top_p": [0.95, 1.0, 0.5, 0.99],
        "min_p": [0.0, 0.05],
        "repetition_penalty": [1.2, 2.0],
    }
    chosen: dict[str, Any] = {}
    for name, each in choices.items():
        chosen[name] = rng.choice(each).item()
    return logits, rng.random(600) < 0.05, SamplingOptions(**chosen)


@pytest.mark.parametrize("order", ORDERS)
def test_filters_in_numpy_give_the_same_bits(order: str) -> None:
    for number in range(60):
        logits, history, options = drawn(number)
        wanted = filter_logits(
            mx.array(logits[None]), mx.array(history[None]), options, ORDERS[order]
        )
        found = filter_scores(logits, history, options, ORDERS[order])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.array(wanted[0]))


@pytest.mark.parametrize("warmth", [0.0, 0.8])
def test_choices_in_numpy_are_the_same(warmth: float) -> None:
    """From one choice to the next as the decoder takes them, past what is drawn at a time."""
    options, key = SamplingOptions(temperature=warmth), mx.random.key(7)
    noise = Noise(key, 600)
    for number in range(40):
        logits, history, _ = drawn(number)
        key, own = mx.random.split(key)
        wanted = sample(
            mx.array(logits[None]), mx.array(history[None]), options, FILTERS, own[None]
        )
        assert choose(logits, history, options, FILTERS, noise) == wanted.item()


def test_a_top_p_that_the_last_bits_decide_is_mlx_s() -> None:
    """A share of exactly the limit is removed; its sum is near it with any exponential."""
    logits = np.zeros(20, np.float32)
    for kept_share in (0.95, 0.9, 0.75, 0.5):
        changed: dict[str, Any] = OFF | {"top_p": kept_share}
        options = SamplingOptions(**changed)
        wanted = filter_logits(mx.array(logits[None]), mx.zeros((1, 20)) > 0, options, FILTERS)
        found = filter_scores(logits, np.zeros(20, bool), options, FILTERS)
        np.testing.assert_array_equal(found, np.array(wanted[0]))
