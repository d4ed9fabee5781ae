"""The rule engine: nothing lost, nothing used twice, every shape checked."""

from __future__ import annotations

import numpy as np
import pytest

from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo_convert import layout
from mlx_audio_turbo_convert.rules import Drop, Rule, apply, plan, prefixed, rule

RULES = prefixed(
    "up.",
    [
        rule("layers.{i}.{leaf}"),
        rule("joined", "a", "b", move=layout.total),
        Drop("count.{i}", "counts"),
    ],
    target="ours.",
)
NAMES = ["up.layers.0.weight", "up.layers.1.bias", "up.a", "up.b", "up.count.3"]


def test_names_are_carried_through_the_templates() -> None:
    made = plan(RULES, NAMES)
    assert [(step.target, step.sources) for step in made.steps] == [
        ("ours.layers.0.weight", ("up.layers.0.weight",)),
        ("ours.layers.1.bias", ("up.layers.1.bias",)),
        ("ours.joined", ("up.a", "up.b")),
    ]
    assert made.dropped == {"up.count.3": "counts"}


@pytest.mark.parametrize(
    "extra",
    ["up.layers.0.gain", "up.layers.x.weight", "layers.0.weight", "up.layers.0.weight.", ""],
)
def test_a_tensor_without_a_rule_is_an_error(extra: str) -> None:
    with pytest.raises(ModelFolderError, match="no place"):
        plan(RULES, [*NAMES, extra])


def test_a_missing_second_source_is_an_error() -> None:
    with pytest.raises(ModelFolderError, match=r"up\.b is not"):
        plan(RULES, [name for name in NAMES if name != "up.b"])


def test_a_second_source_alone_is_an_error() -> None:
    with pytest.raises(ModelFolderError, match=r"'up\.b'"):
        plan(RULES, [name for name in NAMES if name != "up.a"])


@pytest.mark.parametrize(
    "extra",
    [
        rule("elsewhere", "up.a"),
        Drop("up.a", "?"),
        rule("ours.layers.0.weight", "up.layers.0.{leaf}"),
    ],
)
def test_a_tensor_taken_twice_is_an_error(extra: Rule | Drop) -> None:
    with pytest.raises(ModelFolderError, match="two rules"):
        plan([*RULES, extra], NAMES)


def test_shared_sources_may_make_two_targets_but_not_the_same_one() -> None:
    halves = [Rule(name, ("x", "y"), layout.total, shared=True) for name in ("p", "q")]
    assert len(plan(halves, ["x", "y"]).steps) == 2
    with pytest.raises(ModelFolderError, match="two rules"):
        plan([*halves, halves[0]], ["x", "y"])
    with pytest.raises(ModelFolderError, match="two rules"):
        plan([*halves, rule("r", "x")], ["x", "y"])


SOURCES = {
    "up.layers.0.weight": np.ones((2, 3)),
    "up.layers.1.bias": np.ones(2),
    "up.a": np.full(4, 1.0),
    "up.b": np.full(4, 2.0),
    "up.count.3": np.zeros(()),
}
SHAPES: dict[str, tuple[int, ...]] = {
    "ours.layers.0.weight": (2, 3),
    "ours.layers.1.bias": (2,),
    "ours.joined": (4,),
}


def test_apply_yields_every_target() -> None:
    made = dict(apply(plan(RULES, NAMES), SOURCES.__getitem__, SHAPES))
    assert {name: array.shape for name, array in made.items()} == SHAPES
    assert made["ours.joined"].tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("shapes", "what"),
    [
        ({**SHAPES, "ours.extra": (1,)}, r"lacks 'ours\.extra'"),
        ({k: v for k, v in SHAPES.items() if k != "ours.joined"}, r"makes 'ours\.joined'"),
        ({**SHAPES, "ours.layers.0.weight": (3, 2)}, r"layers\.0\.weight has shape \(2, 3\)"),
    ],
)
def test_apply_checks_names_and_shapes(shapes: dict[str, tuple[int, ...]], what: str) -> None:
    with pytest.raises(ModelFolderError, match=what):
        list(apply(plan(RULES, NAMES), SOURCES.__getitem__, shapes))


def test_weight_norm_runs_over_dimension_0() -> None:
    direction = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    gain = np.array([1, 2, 3, 4], np.float32).reshape(4, 1, 1)
    folded = layout.weight_norm(gain, direction)
    norms = np.sqrt((folded.astype(np.float64) ** 2).sum(axis=(1, 2)))
    np.testing.assert_allclose(norms, gain.ravel(), rtol=1e-6)
    # (in, out, kernel) there, (out, kernel, in) here
    turned = layout.conv_transpose1d_weight_norm(gain, direction)
    assert turned.shape == (3, 5, 4)
    assert turned[1, 2, 3] == folded[3, 1, 2]


def test_batch_norm_folds_to_its_inference_form() -> None:
    random = np.random.default_rng(1)
    x, weight, bias, mean = random.standard_normal((4, 8)).astype(np.float32)
    variance = random.uniform(0.1, 2, 8).astype(np.float32)
    wanted = (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
    scale = layout.batch_norm_scale(weight, variance)
    shift = layout.batch_norm_shift(weight, bias, mean, variance)
    np.testing.assert_allclose(x * scale + shift, wanted, rtol=1e-5, atol=1e-6)
    plain = x * layout.batch_norm_scale_plain(variance)
    plain = plain + layout.batch_norm_shift_plain(mean, variance)
    wanted = (x - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(plain, wanted, rtol=1e-5, atol=1e-6)


def test_moves_put_the_axes_where_they_belong() -> None:
    x = np.arange(24).reshape(2, 3, 4)
    assert layout.conv1d(x)[1, 3, 2] == x[1, 2, 3]
    assert layout.conv_transpose1d(x)[2, 3, 1] == x[1, 2, 3]
    assert layout.linear_in_out(x[0]).shape == (4, 3)
    image = np.arange(120).reshape(2, 3, 4, 5)
    assert layout.conv2d(image)[1, 3, 4, 2] == image[1, 2, 3, 4]
    assert layout.pointwise(x[..., :1]).shape == (2, 3)


def test_a_wide_kernel_is_no_linear_layer() -> None:
    rules = [rule("proj.weight", move=layout.pointwise)]
    with pytest.raises(ModelFolderError, match=r"proj\.weight of shape \(2, 3, 4\).*kernel"):
        list(
            apply(
                plan(rules, ["proj.weight"]), lambda _: np.zeros((2, 3, 4)), {"proj.weight": (2, 3)}
            )
        )
