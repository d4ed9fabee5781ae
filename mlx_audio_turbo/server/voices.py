"""A voice from an upload."""

from __future__ import annotations

import tempfile
from pathlib import Path

from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.requests import Request

from ..audio.files import load_audio
from ..config import SAMPLE_RATE
from ..errors import AudioError
from ..models.base import Model
from ..voice_library import SavedVoice, VoiceLibrary
from .access import read_body
from .errors import RequestError
from .settings import ServerSettings
from .speech_request import VOICE_NAME


async def create_voice(
    request: Request, model: Model, library: VoiceLibrary, settings: ServerSettings
) -> SavedVoice:
    """Keep the voice of an uploaded clip: the fields ``name``, ``audio_sample`` and ``consent``.

    Raises:
        RequestError: a field is missing or wrong, the name is taken, or there is no consent.
        TurboError: the clip makes no voice.
    """
    content = await read_body(request, settings)
    name, clip, consent = await _fields(request, content)
    if not VOICE_NAME.fullmatch(name):
        raise RequestError(
            *(400, "invalid_name"),
            "name is no name for a voice; use up to 64 letters, digits and . _ + -",
            param="name",
        )
    if not consent.strip():
        raise RequestError(
            *(400, "missing_consent"),
            "consent is missing; say who allowed the use of this voice, and how",
            param="consent",
        )
    if name in library.names():
        raise RequestError(409, "voice_exists", f"there is a voice {name!r} already", param="name")

    def make() -> SavedVoice:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip")
            path.write_bytes(clip)
            try:
                samples = load_audio(path, sample_rate=SAMPLE_RATE)
            except AudioError as error:
                raise AudioError(str(error).replace(str(path), "the clip")) from None
            samples = samples[: round(settings.max_clip_seconds * SAMPLE_RATE)]
            voice = model.encode_voice(samples, sample_rate=SAMPLE_RATE)
            return library.add(name, voice, clip=path, consent=consent)

    return await to_thread.run_sync(make)


async def _fields(request: Request, content: bytes) -> tuple[str, bytes, str]:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    again = Request(request.scope, receive)
    # A body that is no form ends in Starlette's own error, which is answered with 400.
    form = await again.form(max_files=1, max_fields=8)
    try:
        clip = form.get("audio_sample") or form.get("file")
        if not isinstance(clip, UploadFile):
            raise RequestError(
                *(400, "missing_audio_sample"),
                "audio_sample is missing; upload a clip of the voice",
                param="audio_sample",
            )
        return str(form.get("name", "")), await clip.read(), str(form.get("consent", ""))
    finally:
        await form.close()
