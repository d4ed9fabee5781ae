"""The JSON of a speech request → text, voice, format and options, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..options import definitions
from .audio_stream import MEDIA_TYPES
from .errors import RequestError
from .settings import ServerSettings

VOICE_NAME = re.compile(r"[^\W_][\w.+-]{0,63}")
"""The pattern of voice names. It has no path in it."""
_SCALARS = (int, float, str, bool)
_MARKUP = re.compile(r"\s*<(\?xml|!doctype|!entity|speak)\b", re.IGNORECASE)


@dataclass(frozen=True)
class SpeechRequest:
    """A checked request.

    model: as the client named it; voice: a name, or None for the default.
    options: those of the model that the request gives.
    """

    model: str | None
    text: str
    voice: str | None
    format: str
    events: bool
    options: Mapping[str, Any]


def parse_json(content: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
        RequestError: it is no JSON object.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise RequestError(400, "invalid_json", "the body is not JSON") from None
    if not isinstance(values, dict):
        raise RequestError(400, "invalid_json", "the body is not a JSON object")
    return values


def parse_speech(values: Mapping[str, Any], settings: ServerSettings) -> SpeechRequest:
    """Check the fields of a speech request. Unknown fields are ignored, as OpenAI does.

    Raises:
        RequestError: a field is missing, of the wrong type or out of range.
    """
    text = _text(values, "input")
    if text is None:
        raise RequestError(400, "missing_input", "input is missing; give a text", param="input")
    check_text(text, len(text), settings, head=text, param="input")
    return replace(parse_session(values), text=text)


def check_text(
    text: str, characters: int, settings: ServerSettings, *, head: str, param: str
) -> None:
    """Check a text, or a piece of one.

    Args:
        characters: of the whole text so far; head: its beginning.
        param: the name of the field.

    Raises:
        RequestError: it is too long, or what a model cannot speak.
    """
    if characters > settings.max_text:
        raise RequestError(
            *(400, "text_too_long"),
            f"{param} has {characters} characters; give at most {settings.max_text}",
            param=param,
        )
    if "\0" in text:
        raise RequestError(
            *(400, f"invalid_{param}"),
            f"{param} has a null character; leave it out",
            param=param,
        )
    if _MARKUP.match(head):
        raise RequestError(
            *(400, "unsupported_markup"),
            f"{param} is SSML, which the model would read out; send plain text",
            param=param,
        )


def parse_session(values: Mapping[str, Any]) -> SpeechRequest:
    """Check the fields of a speech request but for its text.

    Raises:
        RequestError: a field is of the wrong type or out of range.
    """
    speed = values.get("speed", 1)
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or speed != 1:
        raise RequestError(
            *(400, "unsupported_speed"),
            "speed is not supported: the model has no speed, and stretching would change the "
            "voice; leave it out, or send 1",
            param="speed",
        )
    format = _choice(values, "response_format", tuple(MEDIA_TYPES), "mp3")
    events = _choice(values, "stream_format", ("audio", "sse"), "audio") == "sse"
    return SpeechRequest(
        model=_text(values, "model"),
        text="",
        voice=voice_name(values.get("voice")),
        format=format,
        events=events,
        options=values,
    )


def parse_conversion(texts: Mapping[str, str]) -> SpeechRequest:
    """Check the fields of a form that asks for a conversion; its ``options`` have the seed.

    Raises:
        RequestError: a field is wrong.
    """
    names = ("model", "voice", "response_format", "stream_format")
    spec = parse_session({name: texts[name] for name in names if texts.get(name)})
    given = texts.get("seed")
    if given and not re.fullmatch(r"[0-9]{1,20}", given):
        raise RequestError(400, "invalid_seed", "seed is no whole number", param="seed")
    return replace(spec, options={"seed": int(given) if given else None})


def model_options(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The run options of a model among the fields of a request; null leaves the default.

    Raises:
        OptionError: a value of the wrong type or out of range.
    """
    chosen: dict[str, Any] = {}
    for name, definition in definitions(kind).items():
        if values.get(name) is None or definition.kind not in _SCALARS:
            continue
        chosen[name] = definition.check(values[name])
    return chosen


def voice_name(value: Any) -> str | None:
    """The name in a ``voice`` field, which is a text or an object with an ``id``.

    Raises:
        RequestError: it is neither, or no possible name.
    """
    if isinstance(value, Mapping):
        value = value.get("id")
    if value is None:
        return None
    if not isinstance(value, str) or not VOICE_NAME.fullmatch(value):
        raise RequestError(
            400, "invalid_voice", "voice is no name of a voice; see /v1/audio/voices", param="voice"
        )
    return value


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is not None and not isinstance(value, str):
        raise RequestError(400, f"invalid_{name}", f"{name} is not a text", param=name)
    return value


def _choice(values: Mapping[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    value = values.get(name)
    if value is None:
        return default
    if value not in known:
        raise RequestError(
            400, f"invalid_{name}", f"{name} is not one of {', '.join(known)}", param=name
        )
    return value
