"""CAM++ inside ``s3gen_meanflow.safetensors``; its batch norms become scales and shifts."""

from __future__ import annotations

from .. import layout
from ..rules import Drop, Rule, prefixed, rule


def batch_norm(target: str, source: str, *, affine: bool = True) -> list[Rule | Drop]:
    mean, variance = f"{source}.running_mean", f"{source}.running_var"
    if affine:
        weight, bias = f"{source}.weight", f"{source}.bias"
        scale = Rule(f"{target}.weight", (weight, variance), layout.batch_norm_scale, shared=True)
        shift = Rule(
            f"{target}.bias", (weight, bias, mean, variance), layout.batch_norm_shift, shared=True
        )
    else:
        scale = Rule(f"{target}.weight", (variance,), layout.batch_norm_scale_plain, shared=True)
        shift = Rule(f"{target}.bias", (mean, variance), layout.batch_norm_shift_plain, shared=True)
    return [scale, shift, Drop(f"{source}.num_batches_tracked", "counts training steps")]


_RESIDUAL_BLOCK: list[Rule | Drop] = [
    rule("conv{n}.weight", move=layout.conv2d),
    *batch_norm("norm{n}", "bn{n}"),
    rule("shortcut.weight", "shortcut.0.weight", move=layout.conv2d),
    *batch_norm("shortcut_norm", "shortcut.1"),
]

_DENSE_LAYER: list[Rule | Drop] = [
    *batch_norm("norm{n}", "nonlinear{n}.batchnorm"),
    rule("linear.weight", "linear1.weight", move=layout.pointwise),
    rule("local.weight", "cam_layer.linear_local.weight", move=layout.conv1d),
    rule("squeeze.weight", "cam_layer.linear1.weight", move=layout.pointwise),
    rule("squeeze.bias", "cam_layer.linear1.bias"),
    rule("gate.weight", "cam_layer.linear2.weight", move=layout.pointwise),
    rule("gate.bias", "cam_layer.linear2.bias"),
]

RULES: list[Rule | Drop] = prefixed(
    "speaker_encoder.",
    [
        rule("head.conv{n}.weight", move=layout.conv2d),
        *batch_norm("head.norm{n}", "head.bn{n}"),
        *prefixed("head.layer{s}.{i}.", _RESIDUAL_BLOCK, target="head.stage{s}.{i}."),
        rule("tdnn.weight", "xvector.tdnn.linear.weight", move=layout.conv1d),
        *batch_norm("tdnn_norm", "xvector.tdnn.nonlinear.batchnorm"),
        *prefixed("xvector.block{b}.tdnnd{i}.", _DENSE_LAYER, target="block{b}.layer{i}."),
        *batch_norm("transit{b}.norm", "xvector.transit{b}.nonlinear.batchnorm"),
        rule("transit{b}.linear.weight", "xvector.transit{b}.linear.weight", move=layout.pointwise),
        *batch_norm("out_norm", "xvector.out_nonlinear.batchnorm"),
        rule("dense.weight", "xvector.dense.linear.weight", move=layout.pointwise),
        *batch_norm("dense_norm", "xvector.dense.nonlinear.batchnorm", affine=False),
    ],
    target="s3gen.speaker_encoder.",
)
