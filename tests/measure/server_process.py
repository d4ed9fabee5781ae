"""A server in a process of its own, and what the system says of it. Linux only."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from mlx_audio_turbo import Voice, VoiceLibrary

START_SECONDS = 300


class ServerProcess:
    """``mlx_audio_turbo.serve``, on a free port.

    Args:
        place: an empty folder, for voices and temporary files.
        voice: kept there as ``anna``, and spoken with where a request names none.
    """

    def __init__(self, model: str, place: Path, voice: Voice):
        self.voices, self.temporary = place / "voices", place / "temporary"
        self.temporary.mkdir(parents=True)
        VoiceLibrary(self.voices).add("anna", voice)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        environment = os.environ | {
            "MLX_AUDIO_TURBO_VOICES": str(self.voices),
            "TMPDIR": str(self.temporary),
        }
        command = [sys.executable, "-m", "mlx_audio_turbo.serve", "--model", model, "--warm_up"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port), "--voice", "anna"], env=environment
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if ask(self.port, "GET", "/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self.kill()
        raise RuntimeError("the server did not start")

    @property
    def memory(self) -> int:
        """Bytes that no file backs."""
        return 1024 * int(self._status("RssAnon"))

    @property
    def threads(self) -> int:
        return int(self._status("Threads"))

    @property
    def handles(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far, of all threads."""
        text = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")

    def _status(self, name: str) -> str:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
        assert found is not None
        return found[1]

    def terminate(self) -> None:
        """Ask it to end, as a supervisor does."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None where it has not ended by then."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.wait()

    def metric(self, name: str) -> float:
        """A gauge or counter."""
        text = ask(self.port, "GET", "/metrics")[1].decode()
        found = re.search(rf"^mlx_audio_turbo_{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])


def connect(
    port: int,
    method: str,
    path: str,
    body: Mapping[str, object] | None = None,
    *,
    buffer: int | None = None,
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A connection whose answer has begun.

    Args:
        buffer: bytes that the system receives ahead of the reader.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    if buffer is not None:
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.sock.settimeout(120)
        connection.sock.connect(("127.0.0.1", port))
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def ask(
    port: int, method: str, path: str, body: Mapping[str, object] | None = None
) -> tuple[int, bytes]:
    """The status and the body of an answer."""
    connection, answer = connect(port, method, path, body)
    try:
        return answer.status, answer.read()
    finally:
        connection.close()
