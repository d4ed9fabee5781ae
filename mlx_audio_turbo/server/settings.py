"""What a server allows and where it listens."""

from __future__ import annotations

from dataclasses import dataclass, field

OPENAI_VOICES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx"),
    *("sage", "shimmer", "verse"),
)
"""Voice names that OpenAI's clients send; each speaks with the default voice unless aliased."""
OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Model names that OpenAI's clients send; each is the first served model unless aliased."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Limits and access.

    api_keys: clients send one of them as ``Authorization: Bearer``, where there are any.
    hosts: values of the ``Host`` header that are answered, against DNS rebinding.
    origins: web pages of other origins that may call the server; none by default.
    prefix: a path before every route, for a reverse proxy.
    default_voice: the name of the voice that speaks where an unknown OpenAI voice is asked for;
        None is the model's own voice.
    voice_aliases, model_aliases: further names.
    max_body: bytes of an upload; max_json: of any other request; max_text: characters of a text.
    max_clip_seconds: of a clip that makes a voice; max_source_seconds: of what is converted.
    max_active: requests that are spoken at a time; max_waiting: requests that wait for a place.
    max_per_client: requests at a time of one key, without keys of one address; None for no limit.
    header_seconds, body_seconds: in which the head and the body of a request must arrive.
    queue_seconds: that a request waits for a place.
    request_seconds: that a request takes, from its head to its last byte.
    stalled_seconds: after which a listener who takes no more bytes is cut off.
    text_seconds: in which the next piece of a text that is being written must arrive.
    steady: cut streams so that they play without a gap, by the speed of this machine.
    max_wyoming: connections for Home Assistant.
    wyoming: host and port for Home Assistant, without a key; None for no port.
    idle_unload: seconds without a request after which a model leaves the memory; 0 for never.
    """

    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    origins: tuple[str, ...] = ()
    prefix: str = ""
    default_voice: str | None = None
    voice_aliases: dict[str, str] = field(default_factory=dict)
    model_aliases: dict[str, str] = field(default_factory=dict)
    max_body: int = 25_000_000
    max_json: int = 1_000_000
    max_text: int = 20_000
    max_clip_seconds: float = 120.0
    max_source_seconds: float = 600.0
    max_active: int = 16
    max_waiting: int = 32
    max_per_client: int | None = None
    header_seconds: float = 30.0
    body_seconds: float = 30.0
    queue_seconds: float = 120.0
    request_seconds: float = 3600.0
    stalled_seconds: float = 120.0
    text_seconds: float = 300.0
    steady: bool = False
    max_wyoming: int = 32
    wyoming: tuple[str, int] | None = None
    idle_unload: float = 0.0
