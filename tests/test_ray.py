"""The examples for several machines, in Ray's local cluster, against one process."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary
from mlx_audio_turbo.audio.files import to_int16

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
EXAMPLES = Path(__file__).parents[1] / "examples"
BOOKS = {
    f"book-{number}": "\n\n".join(
        f"Book {number} says a sentence, the {part}." for part in range(4)
    )
    for number in range(6)
}


@pytest.fixture(scope="module")
def cluster(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A local cluster with two cores; gives the folder of voices that its workers see."""
    voices = tmp_path_factory.mktemp("voices")
    environment = {"MLX_AUDIO_TURBO_VOICES": str(voices)}
    environment["MLX_AUDIO_TURBO_CACHE"] = os.environ["MLX_AUDIO_TURBO_CACHE"]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    yield voices
    ray.shutdown()


def alone(model: ChatterboxTurbo, voice: Voice, place: Path) -> list[dict[str, Any]]:
    """The manifest of one process without Ray."""
    reader_type = runpy.run_path(str(EXAMPLES / "ray_library.py"))["Reader"]
    reader = reader_type.__new__(reader_type)
    reader.output, reader.voice, reader.model = place / "alone", voice, model
    reader.output.mkdir()
    rows = [reader({"item": [str(place / "books" / f"{name}.txt")]}) for name in BOOKS]
    return [{key: value[0] for key, value in row.items()} for row in rows]


@pytest.mark.parametrize("killed", [False, True])
def test_a_library(
    cluster: Path, model: ChatterboxTurbo, voice: Voice, tmp_path: Path, killed: bool
) -> None:
    (tmp_path / "books").mkdir()
    for name, text in BOOKS.items():
        (tmp_path / "books" / f"{name}.txt").write_text(text)
    voice.save(tmp_path / "anna.safetensors")
    pids = tmp_path / "pids"
    pids.mkdir()
    example = runpy.run_path(str(EXAMPLES / "ray_library.py"))

    class Marked(example["Reader"]):
        """Tells its process, and waits a little, so that there is a middle to be killed in."""

        def __init__(self, *arguments: Any):
            super().__init__(*arguments)
            (pids / str(os.getpid())).touch()

        def __call__(self, books: Any) -> Any:
            time.sleep(0.5)
            return super().__call__(books)

    output = tmp_path / "output"

    def kill() -> None:
        deadline = time.monotonic() + 120
        while not list(output.glob("*.flac")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(int(next(pids.iterdir()).name), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    if killed:
        killer.start()
    places = (str(tmp_path / "books"), str(output), str(tmp_path / "anna.safetensors"))
    example["speak"](*places, "tiny", actors=2, reader=Marked)
    if killed:
        killer.join()
    assert len(list(pids.iterdir())) == (3 if killed else 2)
    assert json.loads((output / "manifest.json").read_text()) == alone(model, voice, tmp_path)
    assert {path.name for path in output.iterdir()} == {
        "manifest.json",
        *(f"{name}.flac" for name in BOOKS),
    }


def test_replicas_of_the_server(cluster: Path, model: ChatterboxTurbo, voice: Voice) -> None:
    serve = pytest.importorskip("ray.serve")
    VoiceLibrary(cluster).add("anna", voice)
    example = runpy.run_path(str(EXAMPLES / "ray_serve.py"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"port": port})
    try:
        serve.run(example["application"]("anna", "tiny", 2))
        url = f"http://127.0.0.1:{port}/v1/audio/speech"
        for seed in range(6):
            body = {"input": "Hello there.", "seed": seed, "max_tokens": 20}
            answer = httpx.post(url, json={**body, "response_format": "pcm"}, timeout=120)
            assert answer.status_code == 200, answer.text
            chunks = model.stream("Hello there.", voice=voice, seed=seed, max_tokens=20)
            assert answer.content == b"".join(to_int16(c.audio).tobytes() for c in chunks)
        assert httpx.get(f"http://127.0.0.1:{port}/health").json() == {"status": "ok"}
    finally:
        serve.shutdown()
