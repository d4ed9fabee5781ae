"""One measured figure of the parity table, and how figures are computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.helpers import max_abs, quantile_abs, relative, snr

__all__ = ["Row", "max_abs", "quantile_abs", "relative", "snr"]


@dataclass(frozen=True)
class Row:
    """``figure`` must be at most ``bound``, or at least where ``at_least``."""

    stage: str
    what: str
    figure: float
    bound: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        if not np.isfinite(self.figure) and not (self.at_least and self.figure == np.inf):
            return False
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound
