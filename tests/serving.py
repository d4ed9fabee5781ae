"""A server in a thread, on a free port."""

from __future__ import annotations

import io
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_audio_turbo import ChatterboxTurbo, VoiceLibrary
from mlx_audio_turbo.server.app import create_app
from mlx_audio_turbo.server.connection import SpeechServer, uvicorn_config
from mlx_audio_turbo.server.pool import ModelPool
from mlx_audio_turbo.server.settings import ServerSettings


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Running:
    """A server in a thread."""

    def __init__(self, app: Any):
        self.app = app
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        config = uvicorn_config(app, host="127.0.0.1", port=port, log_level="warning")
        self._server = SpeechServer(config, app.state.server.draining)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def begin_to_end(self) -> None:
        """What SIGTERM does."""
        self._server.should_exit = True

    def stop(self) -> None:
        self.begin_to_end()
        self._thread.join(20)


def app_of(model: ChatterboxTurbo, folder: Path, **settings: Any) -> Any:
    pool = ModelPool(["tiny"], load=lambda name: model)
    options = {"default_voice": "anna", **settings}
    return create_app(pool, library=VoiceLibrary(folder), settings=ServerSettings(**options))


def decoded(content: bytes) -> np.ndarray:
    """The samples of the body of an answer, in whatever format."""
    av = pytest.importorskip("av")
    with av.open(io.BytesIO(content)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    samples = np.concatenate(frames, axis=1)[0]
    assert samples.dtype == np.int16
    return samples.astype(np.float32) / 32_768
