"""The command ``mlx_audio_turbo.serve``: the speech server."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import ipaddress
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ExtraError, OptionError
from .ending import run_here
from .options import Parser, underscored
from .terminal import Terminal

SHARE = 12
"""Requests of one of several keys at a time: less than all places, so that others find some."""
_PACKAGES = ("starlette", "uvicorn", "multipart", "prometheus_client", "websockets")


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    out = Parser(
        prog="mlx_audio_turbo.serve",
        description="A speech server with OpenAI's API, a page, and one batch for all listeners.",
    )
    out.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="folder, Hub id or name to serve; may be given again (default: the official Turbo)",
    )
    out.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    out.add_argument("--port", type=int, default=8000, help="port (default: %(default)s)")
    out.add_argument(
        "--api_key",
        action="append",
        default=[],
        metavar="KEY",
        help="what clients must send as a bearer token; may be given again, for several clients "
        "(or MLX_AUDIO_TURBO_API_KEY, with commas between)",
    )
    out.add_argument(
        "--api_key_file", metavar="FILE", help="a file of further keys, one a line; # for remarks"
    )
    out.add_argument(
        "--max_per_client",
        type=int,
        metavar="N",
        help="requests of one key at a time, without keys of one address "
        f"(default: {SHARE} where there are several keys, otherwise no limit)",
    )
    out.add_argument(
        "--open",
        action="store_true",
        help="serve another host than this machine without a key",
    )
    out.add_argument(
        "--allow_host", action="append", default=[], metavar="NAME", help="a further Host header"
    )
    out.add_argument(
        "--allow_origin", action="append", default=[], metavar="URL", help="a page that may call it"
    )
    out.add_argument(
        "--request_seconds",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="from a request to its last byte; then it is broken off (default: %(default)g)",
    )
    out.add_argument(
        "--queue_seconds",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="that a request waits for a place; then it is refused (default: %(default)g)",
    )
    out.add_argument("--prefix", default="", metavar="PATH", help="a path before every route")
    out.add_argument("--voice", metavar="NAME", help="the voice where a client names none")
    out.add_argument(
        "--wyoming",
        type=int,
        metavar="PORT",
        help="serve Home Assistant's protocol Wyoming too, on this port (extra wyoming)",
    )
    out.add_argument(
        "--warm_up",
        action="store_true",
        help="load the first model at the start, and let it speak a word",
    )
    out.add_argument(
        "--steady",
        action="store_true",
        help="measure each model first, and start streams so late that no gap is heard",
    )
    out.add_argument(
        "--idle_unload",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="unload a model that nobody uses for so long (default: never)",
    )
    out.add_argument("--verbose", action="store_true", help="log every request")
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is stopped; gives the exit code."""
    args = parser().parse_args(underscored(sys.argv[1:] if argv is None else argv))
    terminal = Terminal("mlx_audio_turbo.serve", quiet=False, verbose=args.verbose)

    def work() -> None:
        with terminal.forward_logs():
            _serve(args)

    # On this thread, where uvicorn takes the signals: a server ends after its requests.
    return run_here("mlx_audio_turbo.serve", work)


def _serve(args: argparse.Namespace) -> None:
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise ExtraError(
            f"the server needs {missing[0]}; install it with: pip install 'mlx-audio-turbo[server]'"
        )
    keys = _keys(args)
    if args.max_per_client is not None and args.max_per_client < 1:
        raise OptionError(f"--max_per_client is {args.max_per_client}; give 1 or more")
    for name in ("request_seconds", "queue_seconds"):
        if not 0 < (value := getattr(args, name)) < float("inf"):
            raise OptionError(f"--{name} is {value:g}; give a number above 0")
    if not _is_loopback(args.host) and not keys and not args.open:
        raise OptionError(
            f"--host {args.host} is open to other machines; give --api_key, or --open for no key"
        )
    if not 0 <= args.port < 65536:
        raise OptionError(f"--port is {args.port}; give 0 to 65535")
    if args.wyoming is not None:
        _check_wyoming(args)
    from ..loading.catalog import DEFAULT_MODEL
    from ..server.app import create_app
    from ..server.connection import SpeechServer, uvicorn_config
    from ..server.settings import ServerSettings

    own = f"[{args.host}]" if ":" in args.host else args.host
    hosts = ("127.0.0.1", "localhost", "[::1]", own, *args.allow_host)
    settings = ServerSettings(
        api_keys=keys,
        queue_seconds=args.queue_seconds,
        request_seconds=args.request_seconds,
        max_per_client=args.max_per_client or (SHARE if len(keys) > 1 else None),
        hosts=("*",) if args.host in ("0.0.0.0", "::") and not args.allow_host else hosts,
        origins=tuple(args.allow_origin),
        prefix=args.prefix.rstrip("/"),
        default_voice=args.voice,
        wyoming=None if args.wyoming is None else (args.host, args.wyoming),
        idle_unload=args.idle_unload,
        steady=args.steady,
    )
    app = create_app(args.model or [DEFAULT_MODEL], settings=settings)
    if args.warm_up:
        asyncio.run(app.state.server.speaking.warm_up())
        gc.collect()
        gc.freeze()  # a collection looks at all that was imported, and holds up everybody
    level = "info" if args.verbose else "warning"
    config = uvicorn_config(app, host=args.host, port=args.port, log_level=level)
    SpeechServer(config, app.state.server.draining).run()


def _keys(args: argparse.Namespace) -> tuple[str, ...]:
    """The keys of the options, of their file and of the environment.

    Raises:
        OptionError: a key cannot stand in a header, or the file has none.
        OSError: the file cannot be read.
    """
    keys: list[str] = [*args.api_key]
    if args.api_key_file is not None:
        lines = Path(args.api_key_file).read_text("utf-8", errors="replace").splitlines()
        found = [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
        if not found:
            raise OptionError("--api_key_file has no key; write one a line")
        keys += found
    if not keys:
        given = os.environ.get("MLX_AUDIO_TURBO_API_KEY", "").split(",")
        keys = [key.strip() for key in given if key.strip()]
    for number, key in enumerate(keys, 1):
        if not re.fullmatch(r"[!-~]+", key):
            raise OptionError(f"API key {number} has other than visible ASCII characters")
    return tuple(dict.fromkeys(keys))


def _check_wyoming(args: argparse.Namespace) -> None:
    """Check what the port for Wyoming needs, before the server starts.

    Raises:
        ExtraError: its library is missing.
        OptionError: the port is in use, or would be open without being told.
    """
    if importlib.util.find_spec("wyoming") is None:
        raise ExtraError(
            "--wyoming needs wyoming; install it with: pip install 'mlx-audio-turbo[wyoming]'"
        )
    if not _is_loopback(args.host) and not args.open:
        raise OptionError(
            f"--wyoming has no key, and --host {args.host} is open to other machines; add --open"
        )
    if not 0 < args.wyoming < 65536:
        raise OptionError(f"--wyoming is {args.wyoming}; give 1 to 65535")
    try:
        asyncio.run(_listen(args.host, args.wyoming))
    except OSError as error:
        raise OptionError(
            f"--wyoming {args.wyoming} cannot be used ({error.strerror}); give another port"
        ) from None


async def _listen(host: str, port: int) -> None:
    """Listen for a moment."""
    server = await asyncio.start_server(lambda reader, writer: None, host, port)
    server.close()
    await server.wait_closed()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
