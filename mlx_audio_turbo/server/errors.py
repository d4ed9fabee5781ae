"""Errors in the form of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import (
    AudioError,
    DownloadError,
    ExtraError,
    ModelFolderError,
    OptionError,
    TextError,
    TurboError,
    VoiceError,
)

_STATUS: Mapping[type[TurboError], tuple[int, str]] = {
    TextError: (400, "invalid_text"),
    OptionError: (400, "invalid_option"),
    AudioError: (400, "invalid_audio"),
    VoiceError: (400, "invalid_voice"),
    ExtraError: (501, "missing_extra"),
    ModelFolderError: (500, "model_unavailable"),
    DownloadError: (503, "model_unavailable"),
}
"""The HTTP status and the code of each of our errors."""


class RequestError(Exception):
    """An answer that refuses a request."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers = dict(headers or {})


def shutting_down() -> RequestError:
    """The refusal of what is new while the server ends."""
    return RequestError(503, "shutting_down", "the server is shutting down; try another one")


def timed_out(seconds: float) -> RequestError:
    """The refusal of a request that takes over ``seconds``."""
    return RequestError(
        *(408, "request_timeout"),
        f"the request took over {seconds:g} s; send a shorter text, or read faster",
        headers={"x-should-retry": "false"},  # OpenAI's client would send the same again
    )


def body(code: str, message: str, *, status: int, param: str | None = None) -> dict[str, object]:
    """The JSON of an error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refused(error: TurboError) -> RequestError:
    """One of our errors as an answer; messages that name a path are told without it."""
    status, code = _STATUS.get(type(error), (500, "internal_error"))
    message = str(error) if status < 500 else "the model is not available; see the server's log"
    return RequestError(status, code, message)


async def on_request_error(request: Request, error: Exception) -> Response:
    """The answer to a :class:`RequestError`."""
    assert isinstance(error, RequestError)
    content = body(error.code, error.message, status=error.status, param=error.param)
    return JSONResponse(content, error.status, headers=error.headers)


async def on_our_error(request: Request, error: Exception) -> Response:
    """The answer to one of the library's errors."""
    assert isinstance(error, TurboError)
    return await on_request_error(request, refused(error))


async def on_any_error(request: Request, error: Exception) -> Response:
    """The answer to a fault of the server; its log has the details."""
    content = body("internal_error", "the server failed; see its log", status=500)
    return JSONResponse(content, 500)


async def on_http_error(request: Request, error: Exception) -> Response:
    """The answer to an unknown route or method."""
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    content = body(code, str(error.detail), status=error.status_code)
    return JSONResponse(content, error.status_code, headers=error.headers)
