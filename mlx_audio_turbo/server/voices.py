"""A voice from an upload."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from anyio import to_thread
from starlette.requests import Request

from ..audio.files import load_audio
from ..config import SAMPLE_RATE
from ..models.base import Model
from ..voice_library import SavedVoice, VoiceLibrary
from .errors import RequestError
from .forms import as_file, read_form
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
    form = await read_form(request, settings, name="audio_sample")
    upload = Upload(form.texts.get("name", ""), form.file, form.texts.get("consent", ""))
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
        with as_file(upload.clip) as path:
            longest = settings.max_clip_seconds
            samples = load_audio(path, sample_rate=SAMPLE_RATE, longest=longest)
            voice = model.encode_voice(samples, sample_rate=SAMPLE_RATE)
            return library.add(upload.name, voice, clip=path, consent=upload.consent)

    return await to_thread.run_sync(make)
