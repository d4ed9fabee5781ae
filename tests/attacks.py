"""Attacks on a server: what is sent, byte by byte where a client library would refuse to."""

from __future__ import annotations

import io
import json
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

TEXT = "Hello there."
SPEECH, VOICES = "/v1/audio/speech", "/v1/audio/voices"
BOUNDARY = "xYzZy"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True)
class Answer:
    """The status of an answer and its body; 0 where the server closed without one."""

    status: int
    body: bytes


@dataclass(frozen=True)
class Target:
    """A server. ``key`` is what it asks for."""

    port: int
    key: str = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


Attack = Callable[[Target], Answer]
ATTACKS: dict[str, Attack] = {}


def raw(target: Target, parts: Iterable[bytes], *, pause: float = 0.0) -> Answer:
    """The answer to bytes, sent part by part."""
    content = b""
    with socket.create_connection(("127.0.0.1", target.port), timeout=20) as connection:
        try:
            for index, part in enumerate(parts):
                if index:
                    time.sleep(pause)
                connection.sendall(part)
        except OSError:
            pass  # it answered and closed before all was sent
        try:
            while part := connection.recv(65_536):
                content += part
                if _whole(content):
                    break
        except OSError:
            pass
    head, _, body = content.partition(b"\r\n\r\n")
    return Answer(int(head.split(b" ")[1]) if head else 0, body)


def _whole(content: bytes) -> bool:
    head, found, body = content.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(found) and len(body) >= int(line.partition(b":")[2])
    return False


def head(
    target: Target, method: str, path: str, headers: dict[str, str] | None = None, *more: str
) -> bytes:
    """The head of a request; ``more`` are lines."""
    given = {"Host": target.host}
    if target.key:
        given["Authorization"] = f"Bearer {target.key}"
    given |= headers or {}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in given.items()), *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def ask(
    target: Target,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Answer:
    """The answer to a request with a body of a stated length."""
    stated = {"Content-Length": str(len(body))} | (headers or {})
    return raw(target, [head(target, method, path, stated), body])


def form(*parts: tuple[str, bytes]) -> bytes:
    """A body of several parts, each with the lines of its head."""
    content = b"".join(
        f"--{BOUNDARY}\r\n{lines}\r\n\r\n".encode() + value + b"\r\n" for lines, value in parts
    )
    return content + f"--{BOUNDARY}--\r\n".encode()


def field(name: str, value: bytes | str) -> tuple[str, bytes]:
    value = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return f'Content-Disposition: form-data; name="{name}"', value


def file(content: bytes, name: str = "clip.wav", field: str = "audio_sample") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{field}"; filename="{name}"', content


def upload(
    target: Target, clip: bytes, *, name: bytes | str = "mallory", consent: str = "yes"
) -> Answer:
    """The answer to the upload of a voice."""
    body = form(field("name", name), field("consent", consent), file(clip))
    return ask(target, "POST", VOICES, body, FORM)


def sound(seconds: float, *, kind: str = "FLAC", rate: int = 24_000, channels: int = 1) -> bytes:
    """Silence and a click in every second: it is not refused as silent, and packs well."""
    import soundfile

    samples = np.zeros((rate, channels), np.float32)
    samples[: rate // 100] = 0.5
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, channels, format=kind) as written:
        for _ in range(round(seconds)):
            written.write(samples)
    return out.getvalue()


def add(group: str, attacks: dict[str, Attack]) -> None:
    for name, attack in attacks.items():
        assert f"{group}: {name}" not in ATTACKS
        ATTACKS[f"{group}: {name}"] = attack


def say(path: str = SPEECH, **fields: Any) -> Attack:
    body = {"input": TEXT, "voice": "anna", "max_tokens": 5, **fields}
    content = json.dumps(body).encode()
    return lambda target: ask(target, "POST", path, content, {"Content-Type": "application/json"})


def send(
    content: bytes, kind: str = "application/json", path: str = SPEECH, **headers: str
) -> Attack:
    given = {"Content-Type": kind} | {k.replace("_", "-"): v for k, v in headers.items()}
    return lambda target: ask(target, "POST", path, content, given)


def request(method: str, path: str, **headers: str) -> Attack:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    return lambda target: ask(target, method, path, headers=given)


def wire(*parts: bytes, pause: float = 0.0) -> Attack:
    """Bytes as they are; ``HOST`` stands for the server's own name."""
    return lambda target: raw(
        target,
        (part.replace(b"HOST", target.host.encode()) for part in parts),
        pause=pause,
    )


PATHS = {
    "above": "../anna",
    "the password file": "../../../../../../etc/passwd",
    "absolute": "/etc/passwd",
    "two dots": "..",
    "backslashes": "..\\..\\secret",
    "a drive": "C:\\Windows\\win.ini",
    "a null byte": "anna\0.txt",
    "escaped": "%2e%2e%2fsecret",
    "escaped twice": "%252e%252e%252fsecret",
    "a URL": "http://127.0.0.1/voice.safetensors",
    "a file URL": "file:///etc/passwd",
    "a home": "~/secret",
    "full-width dots": "\uff0e\uff0e\uff0fsecret",
    "a two-dot leader": "\u2025/secret",
    "a fraction slash": "a\u2044b",
    "a text turned round": "anna\u202etxt",
    "zero-width": "an\u200bna",
    "a line break": "anna\n",
    "half a surrogate pair": "\ud800",
    "its suffix and a slash": "anna.safetensors/",
    "a stream of NTFS": "anna:stream",
    "very long": "a" * 100_000,
    "a shell": "$(touch secret)",
    "a template": "{{7*7}}",
}
add("voice", {name: say(voice=path) for name, path in PATHS.items()})
add("voice object", {name: say(voice={"id": PATHS[name]}) for name in ("above", "a null byte")})
add(
    "voice route",
    {
        f"{method} {path}": request(method, f"{VOICES}/{path}")
        for method in ("GET", "DELETE")
        for path in (
            "../../../secret",
            "..%2f..%2fsecret",
            "%2e%2e/%2e%2e/secret",
            "..%5c..%5csecret",
            "%00",
            "anna%00",
            "%c0%ae%c0%ae%c0%afsecret",
            "%ff",
            "%ed%a0%80",
            "....//secret",
        )
    },
)
add(
    "new voice",
    {
        name: partial(upload, clip=sound(8, kind="WAV"), name=path)
        for name, path in {**PATHS, "empty": "", "hidden": ".anna", "bytes": b"\xff\xfe\0"}.items()
        if name not in ("very long", "a URL", "a template")
    },
)

add(
    "text",
    {
        "huge": say(input="a " * 10_001),
        "huge, of four bytes each": say(input="\U0001f642 a" * 7_000),
        "a null byte": say(input="Hello\0there"),
        "half a surrogate pair": say(input="\udc00 hello"),
        "nothing but accents": say(input="\u0301" * 5_000),
        "SSML": say(input="<speak>Hello <break time='10h'/></speak>"),
        "SSML with a name space": say(input=' <SPEAK version="1.0" xml:lang="en">Hello</SPEAK>'),
        "SSML that reads a file": say(
            input='<speak><audio src="file:///etc/passwd"/>Hello</speak>',
        ),
        "an XML bomb": say(
            input='<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "cc">]><speak>&b;</speak>'
        ),
        "of captions": say("/v1/audio/captions", input="<speak>Hello</speak>"),
        "an object": say(input={"$ref": "file:///etc/passwd"}),
    },
)

add(
    "option",
    {
        "temperature NaN": send(b'{"input": "Hello", "voice": "anna", "temperature": NaN}'),
        "temperature infinite": send(b'{"input": "Hello", "voice": "anna", "temperature": 1e999}'),
        "temperature of 4,000 digits": send(
            b'{"input": "Hello", "voice": "anna", "temperature": %s}' % (b"9" * 4_000)
        ),
        "a number of 5,000 digits": send(
            b'{"input": "Hello", "voice": "anna", "seed": %s}' % (b"9" * 5_000)
        ),
        "seed above 64 bits": say(seed=2**64),
        "seed of 4,000 digits": say(seed=10**4_000),
        "seed a list": say(seed=[1]),
        "max_tokens without end": say(max_tokens=10**12),
        "max_tokens below 0": say(max_tokens=-1),
        "top_k true": say(top_k=True),
        "top_p a broken text": say(top_p="\ud800"),
        "retries without end": say(retries=10**9),
        "segment_limit 0": say(segment_limit=0),
        "speed NaN": send(b'{"input": "Hello", "voice": "anna", "speed": NaN}'),
        "a format with a path": say(response_format="../../wav"),
        "a format of a thousand objects": say(response_format=[{}] * 1_000),
        "captions in a path": say("/v1/audio/captions", response_format="../srt"),
        "a model in a path": say(model="../../etc/passwd"),
        "a model of the Hub": say(model="someone/else"),
        "a model with a null byte": say(model="tiny\0"),
        "options of a model in a path": request("GET", "/v1/options?model=../../etc"),
    },
)

add(
    "JSON",
    {
        "deep lists": send(b"[" * 200_000),
        "deep objects": send(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        "deep within the text": send(b'{"input": %s}' % (b"[" * 900 + b"]" * 900)),
        "a list": send(b'["input"]'),
        "no end": send(b'{"input": "Hello'),
        "two objects": send(b'{"input": "Hello"}{"input": "Hello"}'),
        "no UTF-8": send(b'{"input": "\xff\xfe"}'),
        "a comment": send(b'{"input": "Hello" /* x */}'),
        "a control character": send(b'{"input": "Hello\x01"}'),
        "nothing": send(b""),
        "two million empty lists": send(b"[" + b"[]," * 2_000_000 + b"[]]"),
        "a pickle": send(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix"),
        "NaN alone": send(b"NaN"),
    },
)

add(
    "type",
    {
        "XML": send(b"<input>Hello</input>", "text/xml"),
        "JSON said to be XML": send(b'{"input": "Hello", "voice": "anna"}', "application/xml"),
        "a form for speech": send(form(field("input", "Hello")), FORM["Content-Type"]),
        "fields for speech": send(b"input=Hello", "application/x-www-form-urlencoded"),
        "audio for speech": send(sound(1), "audio/flac"),
        "JSON for a voice": send(b'{"name": "mallory", "consent": "yes"}', path=VOICES),
        "fields for a voice": send(
            b"name=mallory&consent=%ff%00&audio_sample=x",
            "application/x-www-form-urlencoded",
            VOICES,
        ),
        "a broken type": send(b'{"input": "Hello"}', "application/json\xff; ==;;\t"),
        "compressed": send(b"\x1f\x8b" + bytes(100), Content_Encoding="gzip"),
    },
)

GOOD = (field("name", "mallory"), field("consent", "yes"), file(sound(8, kind="WAV")))
add(
    "form",
    {
        "no boundary": send(form(*GOOD), "multipart/form-data", VOICES),
        "another boundary": send(form(*GOOD), "multipart/form-data; boundary=other", VOICES),
        "a huge boundary": send(
            form(*GOOD), f"multipart/form-data; boundary={'x' * 9_000}", VOICES
        ),
        "an empty boundary": send(form(*GOOD), 'multipart/form-data; boundary=""', VOICES),
        "an unknown charset": send(
            form(field("name", b"\xff"), *GOOD[1:]), FORM["Content-Type"] + "; charset=x\0", VOICES
        ),
        "no end": send(form(*GOOD)[:300], FORM["Content-Type"], VOICES),
        "nothing": send(b"", FORM["Content-Type"], VOICES),
        "no disposition": send(form(("X-Y: z", b"1"), *GOOD), FORM["Content-Type"], VOICES),
        "no name": send(
            form(("Content-Disposition: form-data", b"1")), FORM["Content-Type"], VOICES
        ),
        "a thousand fields": send(
            form(*[field(f"f{i}", "x") for i in range(1_000)]), FORM["Content-Type"], VOICES
        ),
        "a hundred files": send(
            form(*[file(b"x", field=f"f{i}") for i in range(100)]), FORM["Content-Type"], VOICES
        ),
        "a field of 2 MB": send(
            form(field("consent", "x" * 2_000_000), *GOOD), FORM["Content-Type"], VOICES
        ),
        "a huge head of a part": send(
            form((f"X-Y: {'z' * 100_000}\r\n{GOOD[0][0]}", b"mallory"), *GOOD[1:]),
            FORM["Content-Type"],
            VOICES,
        ),
        "the name a file": send(
            form(file(b"mallory", "n", "name"), *GOOD[1:]), FORM["Content-Type"], VOICES
        ),
        "the clip a field": send(
            form(*GOOD[:2], field("audio_sample", "x")), FORM["Content-Type"], VOICES
        ),
        "a path for a file": send(
            form(field("name", "../x"), GOOD[1], file(GOOD[2][1], "../../secret")),
            FORM["Content-Type"],
            VOICES,
        ),
        "consent of 100 kB": send(
            form(GOOD[0], field("consent", "x" * 100_000), GOOD[2]), FORM["Content-Type"], VOICES
        ),
        "consent with a null byte": send(
            form(GOOD[0], field("consent", "yes\0"), GOOD[2]), FORM["Content-Type"], VOICES
        ),
        "consent of spaces": send(
            form(GOOD[0], field("consent", " \t\u2003"), GOOD[2]), FORM["Content-Type"], VOICES
        ),
    },
)


def _wav(rate: int, channels: int, bits: int, claimed: int, content: bytes) -> bytes:
    block = channels * bits // 8
    return (
        struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            *(b"RIFF", min(claimed + 36, 0xFFFFFFFF), b"WAVE", b"fmt ", 16, 1),
            *(channels & 0xFFFF, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits),
            *(b"data", claimed),
        )
        + content
    )


def _playlist(target: Target) -> Answer:
    """A playlist that would make a decoder ask a server."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.ts"
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n"
        answer = upload(target, text.encode() + b"\0")
        try:
            listener.accept()[0].close()
        except TimeoutError:
            return answer
    return Answer(0, b"the server asked another one")


add(
    "clip",
    {
        "an hour in 300 kB": partial(upload, clip=sound(3_600)),
        "ten minutes of Ogg": partial(upload, clip=sound(600, kind="OGG")),
        "a minute of a million samples a second": partial(
            upload, clip=sound(8, rate=655_350, channels=8)
        ),
        "a claimed 4 GB": partial(upload, clip=_wav(24_000, 1, 16, 0xFFFFFFFF, bytes(1_000))),
        "a thousand channels": partial(
            upload, clip=_wav(24_000, 1_024, 8, 1 << 20, bytes(1 << 20))
        ),
        "rate 0": partial(upload, clip=_wav(0, 1, 16, 1_000, bytes(1_000))),
        "rate 2**32 - 1": partial(upload, clip=_wav(0xFFFFFFFF, 1, 16, 1_000, bytes(1_000))),
        "no channels": partial(upload, clip=_wav(24_000, 0, 16, 1_000, bytes(1_000))),
        "silence": partial(upload, clip=_wav(24_000, 1, 16, 480_000, bytes(480_000))),
        "NaN": partial(
            upload,
            clip=_wav(
                24_000, 1, 32, 960_000, np.full(240_000, np.nan, np.float32).tobytes()
            ).replace(b"fmt \x10\0\0\0\x01\0", b"fmt \x10\0\0\0\x03\0"),
        ),
        "too short": partial(upload, clip=sound(1)),
        "a zip": partial(upload, clip=b"PK\x03\x04" + bytes(5_000)),
        "gzip": partial(upload, clip=b"\x1f\x8b\x08" + bytes(5_000)),
        "a playlist": _playlist,
        "a list of FFmpeg": partial(upload, clip=b"ffconcat version 1.0\nfile /etc/passwd\n\0"),
        "a session description": partial(upload, clip=b"v=0\nc=IN IP4 127.0.0.1\nm=audio 9 RTP\n"),
        "a saved voice": partial(
            upload, clip=struct.pack("<Q", 2) + b"{}" + bytes(64), name="pickle"
        ),
        "a program": partial(upload, clip=b"\x7fELF" + bytes(range(256)) * 100),
        "empty": partial(upload, clip=b""),
    },
)

PLAIN = b'{"input": "Hello", "voice": "anna"}'
POST = b"POST /v1/audio/speech HTTP/1.1\r\nHost: HOST\r\n"
add(
    "HTTP",
    {
        "a header of 100 kB": request("GET", "/health", X_Y="z" * 100_000),
        "ten thousand headers": lambda target: raw(
            target, [head(target, "GET", "/health", {f"X-{i}": "y" for i in range(10_000)})]
        ),
        "a path of 100 kB": request("GET", "/" + "a" * 100_000),
        "a query of 20 kB": request("GET", "/v1/models?" + "a" * 20_000),
        "a null byte in a header": wire(b"GET /health HTTP/1.1\r\nHost: HOST\r\nX: a\0b\r\n\r\n"),
        "a null byte in the path": wire(b"GET /hea\0lth HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        "a space in the path": wire(b"GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        "a folded header": wire(b"GET /health HTTP/1.1\r\nHost: HOST\r\n bad: x\r\n\r\n"),
        "a space before a colon": wire(b"GET /health HTTP/1.1\r\nHost : HOST\r\n\r\n"),
        "no version": wire(b"GET /health\r\n\r\n"),
        "HTTP/9": wire(b"GET /health HTTP/9.9\r\nHost: HOST\r\n\r\n"),
        "HTTP/2": wire(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        "TLS": wire(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600)),
        "noise": wire(bytes(range(256)) * 8),
        "a length below 0": wire(POST + b"Content-Length: -1\r\n\r\n"),
        "a length of letters": wire(POST + b"Content-Length: ten\r\n\r\n"),
        "a length of 30 digits": wire(POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"),
        "two lengths": wire(POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        "an unknown encoding": wire(POST + b"Transfer-Encoding: gzip\r\n\r\n"),
        "a hidden request": wire(
            POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"DELETE /v1/audio/voices/anna HTTP/1.1\r\nHost: HOST\r\n\r\n"
        ),
        "a broken chunk": wire(POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n"),
        "a chunk without a size": wire(POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "a chunk of 2**80": wire(
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\nx"
        ),
        "a body cut off": wire(POST + b"Content-Length: 500\r\n\r\n" + PLAIN),
    },
)
add(
    "size",
    {
        "30 MB said": wire(POST + b"Content-Length: 30000000\r\n\r\n" + PLAIN),
        "2 MB of JSON": send(b'{"input": "%s"}' % (b"a" * 2_000_000)),
        "no length given": wire(
            POST + b"Transfer-Encoding: chunked\r\n\r\n",
            *[b"10000\r\n" + b"a" * 65_536 + b"\r\n" for _ in range(40)],
        ),
        "a clip of 30 MB": partial(upload, clip=bytes(30_000_000)),
    },
)
add(
    "slow",
    {
        "head": wire(b"GET /health HTTP/1.1\r\n", *[b"X: y\r\n"] * 40, pause=0.1),
        "no head": wire(b""),
        "body": wire(POST + b"Content-Length: 1000\r\n\r\n", *[b"{"] * 40, pause=0.1),
        "form": wire(
            POST.replace(b"speech", b"voices")
            + b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n",
            *[b"-"] * 40,
            pause=0.1,
        ),
    },
)
add(
    "method",
    {
        f"{method} {path}": request(method, path)
        for method, path in (
            ("PUT", f"{VOICES}/anna"),
            ("PATCH", f"{VOICES}/anna"),
            ("POST", f"{VOICES}/anna"),
            ("DELETE", VOICES),
            ("GET", SPEECH),
            ("TRACE", "/"),
            ("TRACE", SPEECH),
            ("OPTIONS", SPEECH),
            ("PROPFIND", "/"),
            ("DELETE", "/health"),
            ("GET", "//evil.example/"),
            ("GET", "/v1/models/"),
            ("GET", "/page/../../settings.py"),
            ("GET", "/%2e%2e/%2e%2e/etc/passwd"),
            ("GET", "/static/..%2f..%2fapp.py"),
            ("GET", "/.env"),
        )
    }
    | {
        "CONNECT": wire(b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
        "DELETE by a header": request(
            "POST", f"{VOICES}/anna", X_HTTP_Method_Override="DELETE", X_Method="DELETE"
        ),
        "of no letters": wire(b"\xff\xfe / HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    },
)
add(
    "host",
    {
        "another": request("GET", "/v1/models", Host="evil.example"),
        "its beginning": request("GET", "/v1/models", Host="127.0.0.1.evil.example"),
        "its end": request("GET", "/v1/models", Host="evil.example:80@127.0.0.1"),
        "a path": request("GET", "/v1/models", Host="127.0.0.1/../evil"),
        "empty": request("GET", "/v1/models", Host=""),
        "none": wire(b"GET /v1/models HTTP/1.1\r\n\r\n"),
        "none, in HTTP/1.0": wire(b"GET /v1/models HTTP/1.0\r\n\r\n"),
        "two": wire(b"GET /v1/models HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n"),
        "forwarded": request(
            "GET", "/v1/models", Host="evil.example", X_Forwarded_Host="localhost"
        ),
        "the address of another page": request("GET", "/", Host="evil.example"),
        "a target of another server": wire(
            b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n"
        ),
    },
)
add(
    "origin",
    {
        "another page speaks": send(PLAIN, "text/plain", Origin="http://evil.example"),
        "another page makes a voice": send(
            form(*GOOD), FORM["Content-Type"], VOICES, Origin="http://evil.example"
        ),
        "another page deletes": request("DELETE", f"{VOICES}/anna", Origin="http://evil.example"),
        "a page of another port": request("GET", "/v1/models", Origin="http://127.0.0.1:1"),
        "none": request("GET", "/v1/models", Origin="null"),
        "no address": request("GET", "/v1/models", Origin="http://["),
        "a name that begins alike": request("GET", "/v1/models", Origin="http://127.0.0.1.evil"),
        "before a fetch": request(
            "OPTIONS",
            SPEECH,
            Origin="http://evil.example",
            Access_Control_Request_Method="POST",
        ),
        "a socket": request(
            *("GET", SPEECH),
            Origin="http://evil.example",
            Upgrade="websocket",
            Connection="Upgrade",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
            Sec_WebSocket_Version="13",
        ),
    },
)

WRONG_KEYS: dict[str, dict[str, str]] = {
    "none": {},
    "wrong": {"Authorization": "Bearer wrong"},
    "empty": {"Authorization": "Bearer "},
    "its beginning": {"Authorization": "Bearer secre"},
    "it and more": {"Authorization": "Bearer secret1"},
    "in capitals": {"Authorization": "Bearer SECRET"},
    "basic": {"Authorization": "Basic OnNlY3JldA=="},
    "of no kind": {"Authorization": "secret"},
    "of the letters' look": {"Authorization": "Bearer secr\xe9t"},
    "of another header": {"X-API-Key": "secret"},
    "of 10 kB": {"Authorization": "Bearer " + "secret" * 1_700},
}
"""Headers that a server whose key is ``secret`` refuses."""
KEYED = (
    ("POST", SPEECH),
    ("POST", "/audio/speech"),
    ("POST", VOICES),
    ("GET", VOICES),
    ("DELETE", f"{VOICES}/anna"),
    ("GET", "/v1/models"),
    ("GET", "/v1/options"),
    ("GET", "/metrics"),
    ("POST", "/v1/audio/captions"),
)
"""Routes that ask for the key."""
