"""The wheel holds every module and data file, and the version stands in one place."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mlx_audio_turbo

from .wheel import ROOT, build_wheel

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
FOLDERS = {"mlx_audio_turbo": ROOT / "mlx_audio_turbo", "mlx_audio_turbo_convert": ROOT / "convert"}

OFFLINE = """
import socket, sys
def refuse(*arguments, **options): raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
import mlx_audio_turbo.tts
print(mlx_audio_turbo.tts.__file__)
sys.exit(mlx_audio_turbo.tts.main())
"""


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_every_package_folder_is_in_the_wheel(project: dict) -> None:
    found = {
        ".".join([package, *path.parent.relative_to(root).parts])
        for package, root in FOLDERS.items()
        for path in root.rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found


def test_every_folder_with_modules_is_a_package() -> None:
    for root in FOLDERS.values():
        for path in root.rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


def test_every_data_file_is_in_the_wheel(project: dict) -> None:
    declared = project["tool"]["setuptools"]["package-data"]
    for package, root in FOLDERS.items():
        patterns = {
            path
            for name, globs in declared.items()
            if name.partition(".")[0] == package
            for pattern in globs
            for path in root.joinpath(*name.split(".")[1:]).glob(pattern)
        }
        for path in root.rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert path in patterns, f"{path} is not in the package-data of pyproject.toml"


def test_the_version_stands_in_one_place(project: dict) -> None:
    assert "version" in project["project"]["dynamic"]
    source = project["tool"]["setuptools"]["dynamic"]["version"]
    assert source == {"attr": "mlx_audio_turbo.__version__"}


def test_the_changelog_has_an_entry_for_the_version() -> None:
    assert f"## {mlx_audio_turbo.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.slow
def test_an_installed_wheel_runs_its_commands(tmp_path: Path) -> None:
    """Built from a copy of the tree, installed without dependencies, run from elsewhere."""
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {"mlx_audio_turbo/__init__.py", "mlx_audio_turbo_convert/__init__.py"} <= names
    assert not any(name.startswith("tests/") for name in names)
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    for command in ("mlx_audio_turbo.tts", "mlx_audio_turbo.voices", "mlx_audio_turbo_convert"):
        done = subprocess.run(
            [sys.executable, "-m", command, "--help"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, "Hello.", "--model", "demo", "--output", "hello.wav"],
        cwd=tmp_path,
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "site") in done.stdout
    assert (tmp_path / "hello.wav").stat().st_size > 10_000
