"""A voice from an upload."""

from __future__ import annotations

import tempfile
import unicodedata
from dataclasses import dataclass
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

MAX_CONSENT = 1_000
_UNSEEN = ("Cc", "Cs")
"""Categories of characters that no note has: controls and halves of surrogate pairs."""


@dataclass(frozen=True)
class Upload:
    """The fields of a form that makes a voice; ``clip`` is the content of a file."""

    name: str
    clip: bytes
    consent: str


async def read_upload(request: Request, library: VoiceLibrary, settings: ServerSettings) -> Upload:
    """The fields ``name``, ``audio_sample`` and ``consent`` of a form, checked.

    Raises:
        RequestError: a field is missing or wrong, the name is taken, or there is no consent.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        raise RequestError(
            *(415, "unsupported_media_type"),
            "the body is no form with a file; send multipart/form-data",
        )
    content = await read_body(request, settings)
    if kind == "multipart/form-data" and not content.rstrip().endswith(b"--"):
        raise RequestError(400, "invalid_form", "the form breaks off; send it whole")
    upload = await _fields(request, content)
    if not VOICE_NAME.fullmatch(upload.name):
        raise RequestError(
            *(400, "invalid_name"),
            "name is no name for a voice; use up to 64 letters, digits and . _ + -",
            param="name",
        )
    consent = upload.consent
    if not consent.strip():
        raise RequestError(
            *(400, "missing_consent"),
            "consent is missing; say who allowed the use of this voice, and how",
            param="consent",
        )
    if len(consent) > MAX_CONSENT or any(unicodedata.category(c) in _UNSEEN for c in consent):
        raise RequestError(
            *(400, "invalid_consent"),
            f"consent is no text of up to {MAX_CONSENT} characters",
            param="consent",
        )
    if upload.name in await to_thread.run_sync(library.names):
        raise RequestError(
            409, "voice_exists", f"there is a voice {upload.name!r} already", param="name"
        )
    return upload


async def create_voice(
    upload: Upload, model: Model, library: VoiceLibrary, settings: ServerSettings
) -> SavedVoice:
    """Keep the voice of an uploaded clip.

    Raises:
        TurboError: the clip makes no voice, or the name is taken by now.
    """

    def make() -> SavedVoice:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip")
            path.write_bytes(upload.clip)
            try:
                samples = load_audio(
                    path, sample_rate=SAMPLE_RATE, longest=settings.max_clip_seconds
                )
            except AudioError as error:
                raise AudioError(str(error).replace(str(path), "the clip")) from None
            voice = model.encode_voice(samples, sample_rate=SAMPLE_RATE)
            return library.add(upload.name, voice, clip=path, consent=upload.consent)

    return await to_thread.run_sync(make)


async def _fields(request: Request, content: bytes) -> Upload:
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
        name, consent = (form.get(field, "") for field in ("name", "consent"))
        if not isinstance(name, str) or not isinstance(consent, str):
            raise RequestError(400, "invalid_form", "name and consent are texts, not files")
        return Upload(name, await clip.read(), consent)
    finally:
        await form.close()
