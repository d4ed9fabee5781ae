"""A Hub on this machine's loopback that answers well or fails in a chosen way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(ThreadingHTTPServer):
    """One repository, whatever name is asked for.

    fails: how every request for information fails: ``hang up``, ``half``, ``circle``, an HTTP
        status, or the body of an answer; None where it answers well.
    files: the repository's files.
    breaks: names of the files whose transfer ends early.
    xet: the large files are said to be in Xet storage.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fails: str | int | None = None
        self.files: dict[str, bytes] = {"config.json": b"{}", "model.safetensors": b"w" * 64}
        self.breaks: set[str] = set()
        self.xet = False
        self.requests = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests += 1
        fails, name = self.server.fails, self.path.rpartition("/")[2]
        if fails == "hang up":
            self.close_connection = True
        elif fails == "half":
            self._send(200, b'{"sha": ', length=500)
        elif fails == "circle":
            self._send(302, b"", Location=self.path)
        elif isinstance(fails, int):
            self._send(fails, b"no")
        elif fails is not None:
            self._send(200, fails.encode())
        elif "/tree/" in self.path:
            self._send(200, json.dumps([self._entry(each) for each in self.server.files]).encode())
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": each} for each in self.server.files]
            answer = {"id": "someone/x", "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(answer).encode())
        else:
            content = self.server.files[name]
            early = name in self.server.breaks
            self._send(
                200,
                content[: len(content) // 2] if early else content,
                length=len(content),
                **{"ETag": f'"{name}"', "X-Repo-Commit": COMMIT},
            )

    def _entry(self, name: str) -> dict[str, object]:
        size = len(self.server.files[name])
        entry = {"type": "file", "path": name, "size": size, "oid": "a" * 40}
        if self.server.xet and name.endswith(".safetensors"):
            entry["xetHash"] = "c" * 64
            entry["lfs"] = {"oid": "d" * 64, "size": size, "pointerSize": 130}
        return entry

    def _send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if length not in (None, len(body)):
            self.close_connection = True


@contextmanager
def running() -> Iterator[FakeHub]:
    with FakeHub() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()
