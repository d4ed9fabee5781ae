"""What a Mac should reach, computed from bytes, kernels and multiplications; not measured.

Run: ``make docs``, or ``python -m tests.measure.expected``; writes a table of docs/performance.md.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlx_audio_turbo.config import FRAMES_PER_TOKEN, TOKENS_PER_SECOND, Quantization, T3Config
from mlx_audio_turbo.loading.networks import LISTENERS, parameter_shapes
from mlx_audio_turbo.presets import TURBO

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN = "<!-- expected: made by `make docs` -->"
END = "<!-- end of expected -->"
SECONDS = 10
"""Of speech, after a prompt of the same length."""
PREFIX = 417
"""Positions before the speech: speaker, 375 prompt tokens, 40 text tokens, start."""
KERNELS = 316
"""Of a step of T3 on a GPU, sampling included."""
KERNEL_MICROSECONDS = 5.0
BANDWIDTH_SHARE, ARITHMETIC_SHARE = 0.8, 0.4
"""Of the peak that is reached."""
T3_STEP = ("t3.tfmr.h.", "t3.tfmr.ln_f.", "t3.speech_head.")


@dataclass(frozen=True)
class Chips:
    """Memory bandwidth in GB/s and float32 TFLOP/s of the GPU, lowest and highest of a group."""

    name: str
    bandwidth: tuple[float, float]
    arithmetic: tuple[float, float]


CHIPS = (
    Chips("M1", (68, 68), (2.6, 2.6)),
    Chips("M2 to M4", (100, 120), (3.6, 4.3)),
    Chips("Pro", (150, 273), (5.2, 8.5)),
    Chips("Max", (300, 546), (10.4, 17)),
)


def step_bytes(quantization: Quantization | None = None) -> int:
    """Bytes of weights that a step of T3 reads, in float16 or quantised."""
    shapes = parameter_shapes(TURBO, missing=LISTENERS, quantization=quantization)
    return sum(
        math.prod(shape) * (4 if _is_code(name, shapes) else 2)
        for name, shape in shapes.items()
        if name.startswith(T3_STEP)
    )


def _is_code(name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return name.endswith(".weight") and f"{name.removesuffix('weight')}scales" in shapes


def cache_bytes() -> int:
    """Bytes of keys and values that a step reads, on average, in float16."""
    assert isinstance(TURBO.t3, T3Config)
    positions = PREFIX + SECONDS * TOKENS_PER_SECOND // 2
    return 2 * 2 * TURBO.t3.layers * TURBO.t3.width * positions


def flops() -> tuple[float, float]:
    """Floating-point operations of S3Gen and of HiFT."""
    tokens = 2 * SECONDS * TOKENS_PER_SECOND  # prompt and speech
    frames = FRAMES_PER_TOKEN * tokens
    config = TURBO.s3gen.estimator
    times = {
        "s3gen.flow.encoder.blocks.": tokens,
        "s3gen.flow.encoder.embed.": tokens,
        "s3gen.flow.encoder.lookahead.": tokens,
        "s3gen.flow.encoder.up": frames,
        "s3gen.flow.encoder_proj.": frames,
        "s3gen.flow.estimator.": frames * config.steps,
        "s3gen.mel2wav.f0.": frames / 2,
        "s3gen.mel2wav.conv_in.": frames / 2,
    }
    rate, kernels = frames / 2, len(TURBO.hift.resblock_kernels)
    for level, factor in enumerate(TURBO.hift.upsample_rates):
        times[f"s3gen.mel2wav.ups.{level}."] = rate
        rate *= factor
        times[f"s3gen.mel2wav.source_downs.{level}."] = rate
        times[f"s3gen.mel2wav.source_stacks.{level}."] = rate
        for stack in range(level * kernels, (level + 1) * kernels):
            times[f"s3gen.mel2wav.stacks.{stack}."] = rate
    times["s3gen.mel2wav.conv_out."] = rate
    totals = {"s3gen.flow.": 0.0, "s3gen.mel2wav.": 0.0}
    for name, shape in parameter_shapes(TURBO, missing=LISTENERS).items():
        for prefix, steps in times.items():
            if name.startswith(prefix) and len(shape) > 1:
                part = next(total for total in totals if name.startswith(total))
                totals[part] += 2 * math.prod(shape) * steps
    blocks = config.blocks * (config.mid_blocks + 2)
    attention = 4 * config.heads * config.head_dim * frames**2 * blocks * config.steps
    return totals["s3gen.flow."] + attention, totals["s3gen.mel2wav."]


def table() -> str:
    """The part of the page between the marks."""
    four_bits = Quantization(bits=4, group_size=64)
    plain, quantised = step_bytes(), step_bytes(four_bits)
    s3gen, hift = flops()
    lines = [
        "| computed | GB/s | TFLOP/s | ms per token, float16 | ms per token, 4 bits | "
        "real-time factor, float16 |",
        "|---|---|---|---|---|---|",
    ]
    for chips in CHIPS:
        ends = list(zip(chips.bandwidth, chips.arithmetic, strict=True))
        half = [_milliseconds(plain, bandwidth) for bandwidth, _ in ends]
        quarter = [_milliseconds(quantised, bandwidth) for bandwidth, _ in ends]
        factors = [
            milliseconds * TOKENS_PER_SECOND / 1e3
            + (s3gen + hift) / (ARITHMETIC_SHARE * arithmetic * 1e12) / SECONDS
            for milliseconds, (_, arithmetic) in zip(half, ends, strict=True)
        ]
        cells = (
            _span(chips.bandwidth, ".0f"),
            _span(chips.arithmetic, ".1f"),
            _span(half, ".1f"),
            _span(quarter, ".1f"),
            _span(factors, ".2f"),
        )
        lines.append(f"| {chips.name} | {' | '.join(cells)} |")
    text = (
        f"A token reads {plain / 1e6:,.0f} MB of weights in float16, "
        f"{quantised / 1e6:,.0f} MB in 4 bits, and {cache_bytes() / 1e6:,.0f} MB of keys and "
        "values. Assumed: "
        f"{BANDWIDTH_SHARE:.0%} of the memory's bandwidth; {KERNELS} kernels a token at "
        f"{KERNEL_MICROSECONDS:.0f} µs; {ARITHMETIC_SHARE:.0%} of the arithmetic for the "
        f"{s3gen / 1e12:.1f} TFLOP of S3Gen and {hift / 1e12:.1f} TFLOP of HiFT that {SECONDS} s "
        f"of speech need after a prompt of {SECONDS} s."
    )
    lines += ["", textwrap.fill(text, 100)]
    return "\n".join(lines)


def _milliseconds(weights: int, bandwidth: float) -> float:
    read = (weights + cache_bytes()) / (BANDWIDTH_SHARE * bandwidth * 1e9)
    return 1e3 * read + KERNELS * KERNEL_MICROSECONDS / 1e3


def _span(ends: tuple[float, ...] | list[float], form: str) -> str:
    low, high = (format(each, form) for each in (min(ends), max(ends)))
    return low if low == high else f"{low} to {high}"


def written() -> str:
    """What the page says now."""
    return PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    """Write the table."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
