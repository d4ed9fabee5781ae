"""What an option is, and how its values are checked."""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any

from ..errors import OptionError


@dataclass(frozen=True)
class Option:
    """The definition of an option beside its type.

    help: one line, for the command's help and the documentation.
    default: the value where the caller gives none.
    least, most: the range of a number, ends included.
    above, below: the same, ends excluded.
    """

    help: str
    default: Any = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    @property
    def range(self) -> str:
        """The range in words, such as ``from 1 to 64``; empty where every number is allowed."""
        if self.least is not None and self.most is not None:
            return f"from {_plain(self.least)} to {_plain(self.most)}"
        ends = (
            (self.least, "from {} up"),
            (self.above, "above {}"),
            (self.most, "at most {}"),
            (self.below, "below {}"),
        )
        return ", ".join(words.format(_plain(end)) for end, words in ends if end is not None)

    def contains(self, value: float) -> bool:
        """Whether a number is within the range; infinity and NaN never are."""
        try:
            finite = math.isfinite(value)
        except OverflowError:  # a whole number that no float holds
            return False
        return (
            finite
            and (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True)
class Definition:
    """An option with its name and type.

    kind: the type of a value; optional: whether None is a value too.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    option: Option

    def check(self, value: Any) -> Any:
        """``value``, which must have the type and be within the range.

        Raises:
            OptionError: it is not; the message says what to give.
        """
        if value is None and self.optional:
            return None
        if self.kind in (int, float):
            number = Integral if self.kind is int else Real
            what = "a whole number" if self.kind is int else "a number"
            given = isinstance(value, number) and not isinstance(value, bool)
            if not given or not self.option.contains(typing.cast(float, value)):
                raise OptionError(
                    f"{self.name} is {_shown(value)}; give {what} {self.option.range}"
                )
            return self.kind(typing.cast(float, value))
        if not isinstance(value, self.kind):
            what = "True or False" if self.kind is bool else f"a {self.kind.__name__}"
            raise OptionError(
                f"{self.name} is {_shown(value)}; give {what}{' or None' if self.optional else ''}"
            )
        return value


@cache
def definitions(owner: type) -> Mapping[str, Definition]:
    """The options that a ``TypedDict`` or a dataclass of this module holds, by name."""
    defaults = {each.name: _default(each) for each in _fields(owner)}
    found: dict[str, Definition] = {}
    for name, hint in typing.get_type_hints(owner, include_extras=True).items():
        if typing.get_origin(hint) is not Annotated:
            continue
        kind, option = typing.get_args(hint)
        members = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        (plain,) = (each for each in members if each is not type(None))
        found[name] = Definition(
            name=name,
            kind=typing.get_origin(plain) or plain,
            optional=type(None) in members,
            default=defaults.get(name, option.default),
            option=option,
        )
    return found


def _shown(value: Any) -> str:
    """A wrong value, as a message shows it."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _plain(number: float) -> str:
    return "2**64 - 1" if number == 2**64 - 1 else f"{number:g}"


def _fields(owner: type) -> tuple[Any, ...]:
    return fields(owner) if hasattr(owner, "__dataclass_fields__") else ()


def _default(each: Any) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else each.default


def default_of(annotated: Any) -> Any:
    """The default that the :class:`Option` of an ``Annotated`` type states."""
    return typing.get_args(annotated)[1].default


def unknown(
    name: str, known: Mapping[str, Definition], others: Mapping[str, Mapping[str, Definition]]
) -> str:
    """The message for an option that is not among the ``known``.

    Args:
        others: the options of each model, by its name.
    """
    models = [model for model, options in others.items() if name in options]
    if models:
        return f"{name} is not an option here; {' and '.join(models)} take it"
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown option {name}; " + (
        f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
    )


class Checked:
    """A dataclass whose annotated fields are checked when it is made."""

    def __post_init__(self) -> None:
        for name, definition in definitions(type(self)).items():
            definition.check(getattr(self, name))
