"""How a folder stores quantised layers."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError

T3_BLOCKS = {"turbo": "t3.tfmr.h", "original": "t3.tfmr.layers"}
"""The transformer blocks of each kind of T3, which are what is quantised."""
QUANTIZATION_BITS = (4, 6, 8)
QUANTIZATION_GROUPS = (32, 64, 128)


@dataclass(frozen=True)
class Quantization:
    """How the Linear layers below ``quantized_components`` are stored: MLX's affine groups.

    Each run of ``group_size`` weights of a row shares a scale and a bias; ``bits`` per weight.
    """

    bits: int
    group_size: int
    quantized_components: tuple[str, ...] = (T3_BLOCKS["turbo"],)

    def __post_init__(self) -> None:
        for what, value, known in (
            ("bits", self.bits, QUANTIZATION_BITS),
            ("group_size", self.group_size, QUANTIZATION_GROUPS),
        ):
            if value not in known:
                raise OptionError(f"{what} is {value}; choose one of {', '.join(map(str, known))}")

    def covers(self, name: str) -> bool:
        """Whether a layer or tensor lies in a part that is quantised."""
        return any(name.startswith(f"{part}.") for part in self.quantized_components)
