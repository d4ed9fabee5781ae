"""Forms with a file, as browsers and clients upload them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.requests import Request

from ..errors import AudioError
from .access import read_body
from .errors import RequestError
from .settings import ServerSettings


@dataclass(frozen=True)
class Form:
    """A form.

    file: the content of its one file; texts: its other fields.
    """

    file: bytes
    texts: Mapping[str, str]


async def read_form(request: Request, settings: ServerSettings, *, name: str) -> Form:
    """The form in the body of a request.

    Args:
        name: of the field with the file; ``file`` will do too.

    Raises:
        RequestError: the body is no form with a file and texts, is too large or too slow.
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

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": content, "more_body": False}

    # A body that is no form ends in Starlette's own error, which is answered with 400.
    form = await Request(request.scope, receive).form(max_files=1, max_fields=8)
    try:
        found = form.get(name) or form.get("file")
        if not isinstance(found, UploadFile):
            raise RequestError(
                *(400, f"missing_{name}"), f"{name} is missing; upload a recording", param=name
            )
        texts = {key: value for key, value in form.items() if isinstance(value, str)}
        if len(texts) + 1 < len(form):
            raise RequestError(400, "invalid_form", "the form has a file where a text belongs")
        return Form(await found.read(), texts)
    finally:
        await form.close()


@contextmanager
def as_file(content: bytes) -> Iterator[Path]:
    """An upload as a file for the time of the block. Messages do not tell its path.

    Raises:
        AudioError: what the block raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload")
        path.write_bytes(content)
        try:
            yield path
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), "the upload")) from None
