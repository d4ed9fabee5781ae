"""500 listeners of all kinds at one server; writes their table into docs/server.md.

    python -m tests.measure.robustness.listeners [--requests N]

Some hear all, some read slowly, some leave, some send what is wrong, and in the middle the server
is told to end while listeners hear it. Whatever is heard to its end is compared with what the same
request gets alone.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from mlx_audio_turbo import ChatterboxTurbo, Voice
from tests.attacks import ATTACKS, Target

from ..pages import DOCS, measured_on, table, write_part
from ..server_process import ServerProcess, ask, connect
from .bench import CLIP

SPEECH = "/v1/audio/speech"
CLIENTS = 12
"""Requests at a time."""
WARM = 60
"""Requests until buffers and caches have their size."""
MOST_GROWTH = 50_000_000
POOL = 8
"""Threads that T3's pool may still start."""
IDLE_SECONDS = 11
"""After which the server's idle threads end with the next request."""
TEXTS = (
    "Hello there.",
    "[chuckle] Well, that was a surprise, wasn't it?",
    "One. Two. Three. Four. Five.",
    "A sentence that goes on for a little while, so that not all of them are of one length.",
    "First paragraph of it.\n\nSecond paragraph of it.",
    "مرحبا بالعالم",
)
BAD = tuple(
    name
    for name in ATTACKS
    if name.partition(":")[0] in ("voice", "text", "option", "JSON", "type", "form", "origin")
)
KINDS = {"heard to the end": 50, "read slowly": 10, "left": 20, "wrong": 17, "other": 3}
"""How often each kind of listener comes, of 100."""


def requests() -> list[dict[str, Any]]:
    """Requests that differ in text, length, seed, options and format."""
    formats = ("pcm", "wav", "mp3", "opus", "flac", "aac")
    return [
        {
            "input": text,
            "voice": "anna",
            "seed": 7 * index + number,
            "max_tokens": 10 + 12 * number,
            "temperature": (0.8, 0.5, 1.0)[(index + number) % 3],
            "response_format": formats[(index + 2 * number) % len(formats)],
            "stream_format": "sse" if (index + number) % 4 == 0 else "audio",
        }
        for index, text in enumerate(TEXTS)
        for number in range(4)
    ]


def digest(request: dict[str, Any], content: bytes) -> str:
    """The hash of an answer; of Opus, whose streams have random serial numbers, of its samples."""
    if request["response_format"] == "opus":
        if request["stream_format"] == "sse":
            events = [json.loads(line[6:]) for line in content.split(b"\n\n") if line]
            content = b"".join(base64.b64decode(event.get("audio", "")) for event in events)
        with av.open(io.BytesIO(content)) as container:
            frames = [frame.to_ndarray().tobytes() for frame in container.decode(audio=0)]
        content = b"".join(frames)
    return hashlib.sha256(content).hexdigest()


@dataclass
class Found:
    """What came of the requests.

    wrong: what should not have been; empty is good.
    """

    counts: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    drained: int = 0
    growth: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Crowd:
    """Listeners of one server."""

    def __init__(self, server: ServerProcess, alone: dict[int, str], found: Found):
        self._server, self._alone, self._found = server, alone, found
        self._requests = requests()
        self._lock = threading.Lock()

    def _note(self, kind: str, problem: str = "", *, equal: bool = False) -> None:
        with self._lock:
            self._found.counts[kind] += 1
            self._found.equal += equal
            if problem:
                self._found.wrong.append(f"{kind}: {problem}")

    def come(self, number: int) -> None:
        """One listener, of a kind that the number decides."""
        chance = random.Random(number)
        (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
        which = chance.randrange(len(self._requests))
        visit: Callable[[random.Random, int], tuple[str, bool]] = {
            "heard to the end": self._hear,
            "read slowly": self._read_slowly,
            "left": self._leave,
            "wrong": self._send_wrong,
            "other": self._look_around,
        }[kind]
        try:
            problem, equal = visit(chance, which)
        except Exception as error:
            problem, equal = f"{type(error).__name__}: {error}", False
        self._note(kind, problem, equal=equal)

    def check(self, which: int, status: int, body: bytes) -> tuple[str, bool]:
        """What is wrong with an answer, and whether it is what the request gets alone."""
        if status != 200:
            return f"status {status}: {body[:200]!r}", False
        equal = digest(self._requests[which], body) == self._alone[which]
        return ("" if equal else f"request {which} got other bytes than alone"), equal

    def _hear(self, chance: random.Random, which: int) -> tuple[str, bool]:
        return self.check(which, *ask(self._server.port, "POST", SPEECH, self._requests[which]))

    def _read_slowly(self, chance: random.Random, which: int) -> tuple[str, bool]:
        body = self._requests[which]
        connection, answer = connect(self._server.port, "POST", SPEECH, body, buffer=4_096)
        heard = bytearray()
        try:
            while part := answer.read1(chance.randrange(500, 5_000)):
                heard += part
                time.sleep(0.01)
        finally:
            connection.close()
        return self.check(which, answer.status, bytes(heard))

    def _leave(self, chance: random.Random, which: int) -> tuple[str, bool]:
        """Leave before the answer, at its beginning, or within."""
        body = {**self._requests[which], "input": "A long sentence to leave. " * 20}
        body["max_tokens"] = 200
        if chance.random() < 0.4:
            with socket.create_connection(("127.0.0.1", self._server.port), 60) as connection:
                text = str(body).replace("'", '"').encode()
                connection.sendall(
                    b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s"
                    % (SPEECH.encode(), len(text), text)
                )
                time.sleep(chance.uniform(0, 0.3))
            return "", False
        connection, answer = connect(self._server.port, "POST", SPEECH, body)
        answer.read1(chance.randrange(1, 20_000))
        connection.close()
        return ("" if answer.status == 200 else f"status {answer.status}"), False

    def _send_wrong(self, chance: random.Random, which: int) -> tuple[str, bool]:
        name = chance.choice(BAD)
        answer = ATTACKS[name](Target(self._server.port))
        return ("" if 400 <= answer.status < 500 else f"{name} got {answer.status}"), False

    def _look_around(self, chance: random.Random, which: int) -> tuple[str, bool]:
        path = chance.choice(("/v1/audio/voices", "/v1/models", "/metrics", "/", "/v1/options"))
        status, _ = ask(self._server.port, "GET", path)
        return ("" if status == 200 else f"{path} got {status}"), False

    def be_told_to_end(self) -> None:
        """End the server while listeners hear it: each hears its speech whole, no new one comes."""
        which = [index for index, each in enumerate(self._requests) if each["max_tokens"] >= 34][:8]
        begun = threading.Barrier(len(which) + 1)

        def listen(index: int) -> None:
            try:
                server, body = self._server, self._requests[index]
                connection, answer = connect(server.port, "POST", SPEECH, body)
                heard = answer.read1(10)
                begun.wait(60)
                heard += answer.read()
                connection.close()
                problem, equal = self.check(index, answer.status, heard)
            except Exception as error:
                problem, equal = f"{type(error).__name__}: {error}", False
            self._note("hear the server end", problem, equal=equal)
            with self._lock:
                self._found.drained += equal

        threads = [threading.Thread(target=listen, args=(index,)) for index in which]
        for thread in threads:
            thread.start()
        begun.wait(60)
        self._server.terminate()
        for thread in threads:
            thread.join()
        if self._server.wait(40) is None:
            self._found.wrong.append("the server did not end after SIGTERM")
            self._server.kill()
        try:
            ask(self._server.port, "GET", "/health")
            self._found.wrong.append("something still answers after SIGTERM")
        except OSError:
            pass


@contextmanager
def serving(place: Path, voice: Voice, found: Found) -> Iterator[tuple[ServerProcess, Crowd]]:
    """A server, and listeners that know what each request gets alone.

    At the end memory, threads and files are looked at.
    """
    server = ServerProcess("tiny", place, voice)
    try:
        alone: dict[int, str] = {}
        crowd = Crowd(server, alone, found)
        for index, body in enumerate(requests()):
            status, content = ask(server.port, "POST", SPEECH, body)
            assert status == 200, content[:200]
            alone[index] = digest(body, content)
        yield server, crowd
    finally:
        server.kill()


def settled(server: ServerProcess) -> tuple[int, int, int]:
    """Threads, handles and sessions of an idle server."""
    time.sleep(IDLE_SECONDS)
    ask(server.port, "POST", SPEECH, requests()[0])
    time.sleep(0.2)
    busy = int(server.metric("active") + server.metric("queue"))
    return server.threads, server.handles, busy


def half(place: Path, voice: Voice, numbers: range, found: Found, *, end: bool) -> None:
    """Send the listeners of these numbers to a new server; ``end`` it while it is heard."""
    with serving(place, voice, found) as (server, crowd), ThreadPoolExecutor(CLIENTS) as pool:
        warm = min(WARM, len(numbers) // 2)
        list(pool.map(crowd.come, numbers[:warm]))
        threads, handles, _ = settled(server)
        before = server.memory
        list(pool.map(crowd.come, numbers[warm:]))
        left = settled(server)
        found.growth.append(server.memory - before)
        if left[0] > threads + POOL or left[1] > handles or left[2]:
            found.wrong.append(
                f"threads, handles and requests at work: {left}; before {(threads, handles, 0)}"
            )
        if end:
            crowd.be_told_to_end()
    files = sorted(path.name for path in (*server.temporary.iterdir(), *server.voices.iterdir()))
    if files != ["anna.safetensors"]:
        found.wrong.append(f"files left: {files}")


def listen(count: int, place: Path) -> Found:
    """Send ``count`` listeners, half of them to a server that is told to end at their end."""
    found, started = Found(), time.monotonic()
    voice = ChatterboxTurbo.from_pretrained("tiny").encode_voice(CLIP)
    half(place / "first", voice, range(count // 2), found, end=True)
    half(place / "second", voice, range(count // 2, count), found, end=False)
    found.seconds = time.monotonic() - started
    for growth in found.growth:
        if growth > MOST_GROWTH:
            found.wrong.append(f"memory grew by {growth / 1e6:.0f} MB")
    return found


def page(found: Found) -> str:
    """The table."""
    rows: list[tuple[object, ...]] = [(kind, count) for kind, count in found.counts.items()]
    rows += [
        ("bodies heard to their end, equal to those alone", found.equal),
        ("of these, while the server was told to end (SIGTERM)", found.drained),
        ("memory growth", " and ".join(f"{growth / 1e6:.1f} MB" for growth in found.growth)),
        ("threads, sockets or files left", "none"),
        ("faults", len(found.wrong)),
    ]
    return table(("listeners", ""), rows) + "\n" + measured_on()


def main() -> int:
    """Run the command; 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--dry_run", action="store_true", help="write no page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = listen(args.requests, Path(place))
    text = page(found)
    print(f"{text}{found.seconds:.0f} s")
    for problem in found.wrong:
        print(problem, file=sys.stderr)
    if not found.wrong and not args.dry_run:
        write_part(DOCS / "server.md", "faults", text)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
