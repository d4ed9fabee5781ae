"""Parsed JSON to a frozen dataclass and back, strictly."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ..errors import ModelFolderError

_Config = TypeVar("_Config")
_MAY_BE_ZERO = ("closing_silence", "stop_text")
"""Whole numbers of which 0 is a value."""


def from_dict(kind: type[_Config], values: Mapping[str, Any], *, where: str = "config") -> _Config:
    """Build a configuration dataclass from parsed JSON. A field with a default may be absent.

    Raises:
        ModelFolderError: a key is unknown, missing, or of the wrong type.
    """
    types_of = typing.get_type_hints(kind)
    fields_of = dataclasses.fields(typing.cast(Any, kind))
    hints = {each.name: types_of[each.name] for each in fields_of}
    needed = {each.name for each in fields_of if each.default is dataclasses.MISSING}
    if not isinstance(values, Mapping):
        raise ModelFolderError(f"{where} is not an object in config.json; convert the model again")
    unknown = sorted(set(values) - set(hints))
    missing = sorted(needed - set(values))
    if unknown or missing:
        parts = [f"unknown {', '.join(unknown)}"] if unknown else []
        parts += [f"missing {', '.join(missing)}"] if missing else []
        raise ModelFolderError(
            f"{where} in config.json: {'; '.join(parts)}; convert the model again"
        )
    fields = {name: _value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    return kind(**fields)


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where=where)  # type: ignore[arg-type]
    if isinstance(hint, types.UnionType):
        if value is None and types.NoneType in hint.__args__:
            return None
        choices = [each for each in hint.__args__ if each is not types.NoneType]
        if len(choices) > 1:
            return _one_of(choices, value, where)
        return _value(choices[0], value, where)
    if hint is int:
        least = 0 if where.endswith(_MAY_BE_ZERO) else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ModelFolderError(f"{where} in config.json is {value!r}, not a positive integer")
        return value
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelFolderError(f"{where} in config.json is {value!r}, not a number")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise ModelFolderError(f"{where} in config.json is {value!r}, not true or false")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise ModelFolderError(f"{where} in config.json is {value!r}, not a text")
        return value
    if typing.get_origin(hint) is Mapping:
        if not isinstance(value, Mapping):
            raise ModelFolderError(f"{where} is not an object in config.json")
        return {str(key): _value(float, item, f"{where}.{key}") for key, item in value.items()}
    if not isinstance(value, (list, tuple)) or not value:
        raise ModelFolderError(f"{where} in config.json is {value!r}, not a list")
    (inner, _) = hint.__args__
    return tuple(_value(inner, item, f"{where}[{i}]") for i, item in enumerate(value))


def _one_of(choices: list[Any], value: Any, where: str) -> Any:
    """The dataclass whose ``kind`` the object names; the first where it names none."""
    kinds = {each.kind: each for each in choices}
    values = dict(value) if isinstance(value, Mapping) else {}
    kind = values.pop("kind", choices[0].kind)
    if kind not in kinds:
        raise ModelFolderError(
            f"{where}.kind in config.json is {kind!r}, not {' or '.join(kinds)}; "
            "convert the model again"
        )
    return from_dict(kinds[kind], values, where=where)


def to_dict(config: Any) -> dict[str, Any]:
    """The inverse of :func:`from_dict`, ready for JSON."""
    return dataclasses.asdict(config)
