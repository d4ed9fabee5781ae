"""The JSON, events and subtitles of answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any


def either(one: float | None, other: float | None) -> float | None:
    """``one``, or ``other`` where it is None."""
    return other if one is None else one


def voice(saved: Any) -> dict[str, Any]:
    """The JSON of a kept voice."""
    return {"id": saved.name, "name": saved.name, "object": "voice", "created": saved.created}


def delta(content: bytes) -> dict[str, Any]:
    """The event of encoded audio."""
    return {"type": "speech.audio.delta", "audio": base64.b64encode(content).decode()}


def done(characters: int, tokens: int) -> dict[str, Any]:
    """The last event, with the usage."""
    usage = {
        "input_tokens": characters,
        "output_tokens": tokens,
        "total_tokens": characters + tokens,
    }
    return {"type": "speech.audio.done", "usage": usage}


def sent(event: Mapping[str, Any]) -> bytes:
    """An event as the server sends it in a response."""
    return f"data: {json.dumps(event)}\n\n".encode()


def subtitles(lines: Sequence[tuple[float, float, str]], kind: str) -> str:
    """SubRip or WebVTT."""

    def clock(seconds: float) -> str:
        whole, milliseconds = divmod(round(seconds * 1000), 1000)
        hours, rest = divmod(whole, 3600)
        mark = "," if kind == "srt" else "."
        return f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}{mark}{milliseconds:03d}"

    blocks = [
        f"{index}\n{clock(start)} --> {clock(stop)}\n{text}\n"
        for index, (start, stop, text) in enumerate(lines, 1)
    ]
    return ("WEBVTT\n\n" if kind == "vtt" else "") + "\n".join(blocks)
