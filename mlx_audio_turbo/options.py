"""Options within their ranges."""

from __future__ import annotations

import secrets
from numbers import Integral

from .errors import OptionError


def within(name: str, value: int, least: int, most: int) -> int:
    """``value``, which must be a whole number from ``least`` to ``most``.

    Raises:
        OptionError: it is not.
    """
    if not isinstance(value, Integral):
        raise OptionError(f"{name} is {value!r}; choose a whole number")
    if not least <= value <= most:
        raise OptionError(f"{name} is {value}; choose {least} to {most}")
    return value


def chosen_seed(seed: int | None) -> int:
    """``seed``, or a drawn one.

    Raises:
        OptionError: no whole number, or one that a key cannot hold.
    """
    if seed is None:
        return secrets.randbits(32)
    if not isinstance(seed, Integral) or not 0 <= seed < 2**64:
        raise OptionError(f"seed is {seed!r}; choose a whole number from 0 to 2**64 - 1")
    return int(seed)
