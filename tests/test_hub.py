"""However a download from the Hub fails, it ends in one line that says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlx_audio_turbo import DownloadError, ModelFolderError
from mlx_audio_turbo.loading import hub
from mlx_audio_turbo.loading.catalog import resolve
from mlx_audio_turbo.loading.folder import load

from .fake_hub import COMMIT, FakeHub, running

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:44\nsize 12345\n"
PAGE = b"\n<!DOCTYPE html><html><title>Log in to the hotel's network</title></html>"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def forget_session() -> None:
    """The Hub client keeps its connections, and the proxies that it found, for the process."""
    import huggingface_hub.utils._http as client

    getattr(client, "close_session", getattr(client, "reset_sessions", lambda: None))()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in (*PROXIES, *map(str.lower, PROXIES), "HF_HUB_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    forget_session()
    with running() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
    forget_session()


def refused(repository: str = "someone/x") -> str:
    with pytest.raises(DownloadError) as caught:
        hub.download(repository)
    message = str(caught.value)
    assert "\n" not in message and "; " in message
    return message


def test_a_hub_that_answers(server: FakeHub) -> None:
    folder = hub.download("someone/x")
    assert (folder / "model.safetensors").read_bytes() == b"w" * 64
    assert hub.snapshot_of(folder) == ("someone/x", COMMIT)


@pytest.mark.parametrize("fails", ["hang up", "half", "circle", "", "[]", "{}", "null", PAGE, 418])
def test_an_answer_that_is_none_is_one_line(server: FakeHub, fails: str | int | bytes) -> None:
    server.fails = fails.decode() if isinstance(fails, bytes) else fails
    message = refused()
    assert message.startswith("someone/x could not be downloaded (")
    assert "check the name and the network" in message


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "hf auth login"),
        (403, "hf auth login"),
        (404, "check the name"),
        (429, "wait some minutes"),
        (500, "try again later"),
        (503, "try again later"),
    ],
)
def test_a_refusal_has_its_own_remedy(server: FakeHub, status: int, remedy: str) -> None:
    server.fails = status
    assert remedy in refused()


def test_a_transfer_that_breaks_off_is_one_line_and_the_rest_is_kept(server: FakeHub) -> None:
    server.breaks = {"model.safetensors"}
    refused()
    server.breaks = set()
    assert (hub.download("someone/x") / "model.safetensors").stat().st_size == 64


@pytest.mark.parametrize(("content", "what"), [(POINTER, "git-lfs pointer"), (PAGE, "web page")])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_what_comes_in_place_of_a_file_is_named(
    server: FakeHub, name: str, content: bytes, what: str
) -> None:
    server.files[name] = content
    message = refused()
    assert f"{name} is a {what}" in message
    assert f"hf download someone/x {name}" in message


@pytest.mark.parametrize(
    "address",
    ["ftp://x", "nonsense", "http://[bad", "http://127.0.0.1:9", " ", "http://" + "a" * 99],
)
def test_a_bad_endpoint(server: FakeHub, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert "HF_ENDPOINT" in refused()


@pytest.mark.parametrize(
    "proxy",
    ["socks5://127.0.0.1:9", "socks4://127.0.0.1:9", "http://me:secret@127.0.0.1:9", "nonsense"],
)
def test_a_bad_proxy(server: FakeHub, monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    message = refused()
    assert "ALL_PROXY" in message or 'pip install "httpx[socks]"' in message
    assert "secret" not in message


class PanicException(BaseException):
    """As the Rust code of the Xet client raises it: no Exception."""


PanicException.__module__ = "pyo3_runtime"


@pytest.mark.parametrize(
    "crash", [RuntimeError("Data processing error"), OSError("I/O"), PanicException("panicked")]
)
def test_a_crash_of_the_xet_client_is_followed_by_a_plain_transfer(
    server: FakeHub, monkeypatch: pytest.MonkeyPatch, crash: BaseException
) -> None:
    calls: list[int] = []

    def xet_get(**options: object) -> None:
        calls.append(1)
        raise crash

    pytest.importorskip("hf_xet")
    monkeypatch.setattr("huggingface_hub.file_download.xet_get", xet_get)
    server.xet = True
    assert (hub.download("someone/x") / "model.safetensors").stat().st_size == 64
    assert calls == [1]
    server.breaks = {"model.safetensors"}
    shutil.rmtree(hub.download("someone/x").parents[1])
    refused()


def test_an_interrupt_is_no_failure(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.snapshot_download", stop)
    with pytest.raises(KeyboardInterrupt):
        hub.download("someone/x")


def test_a_cache_that_cannot_be_written(
    server: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file"))
    assert "HF_HOME" in refused()


@pytest.mark.parametrize("lacking", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_download_that_is_not_whole(
    tiny_folder: Path, tmp_path: Path, offline: None, lacking: str
) -> None:
    place = tmp_path / "hub" / "models--someone--x"
    shutil.copytree(tiny_folder, place / "snapshots" / COMMIT)
    (place / "snapshots" / COMMIT / lacking).unlink()
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    with pytest.raises(ModelFolderError) as caught:
        load(resolve("someone/x"))
    message = str(caught.value)
    assert f"no {lacking} (" in message and "the download is not whole)" in message
    assert "hf download someone/x" in message and "convert" not in message


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
@pytest.mark.parametrize(
    ("content", "remedy"), [(POINTER, "git lfs pull"), (PAGE, "download the file itself")]
)
def test_a_folder_with_something_in_place_of_a_file(
    tiny_folder: Path, tmp_path: Path, name: str, content: bytes, remedy: str
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFolderError, match=remedy) as caught:
        load(resolve(folder))
    assert "convert" not in str(caught.value)


def test_the_command_ends_with_code_2(tmp_path: Path) -> None:
    clip = Path(__file__).parent / "data" / "1069-133699-0000.flac"
    words = ["Hi.", "--model", "someone/x", "--ref_audio", str(clip)]
    run = subprocess.run(
        [sys.executable, "-m", "mlx_audio_turbo.tts", *words, "--output", str(tmp_path / "o.wav")],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1 and "someone/x could not be downloaded" in run.stderr
