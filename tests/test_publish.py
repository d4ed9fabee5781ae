"""The card says what is in the folder; only ``publish`` writes to the Hub, and it asks first."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlx_audio_turbo import DownloadError, ModelFolderError
from mlx_audio_turbo.presets import TINY
from mlx_audio_turbo_convert import builtin_voice as voices
from mlx_audio_turbo_convert import card, folder, publish
from mlx_audio_turbo_convert.__main__ import main
from mlx_audio_turbo_convert.source import recognise
from mlx_audio_turbo_convert.synthetic import checkpoint as synthetic

ROOT = Path(__file__).parents[1]


class Hub:
    """Stands in for ``HfApi``."""

    def __init__(self, error: Exception | None = None):
        self.calls: list[tuple[str, Any]] = []
        self._error = error

    def create_repo(self, name: str, **options: Any) -> None:
        self.calls.append((name, options))

    def upload_folder(self, **options: Any) -> None:
        if self._error:
            raise self._error
        self.calls.append(("upload", options))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("made")
    checkpoint = synthetic.write_checkpoint(place / "tiny", config=TINY, name="tiny", seed=2)
    return folder.convert(recognise(checkpoint), place / "out", dtype="float16")


@pytest.fixture
def made(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "made"))


def front_matter(place: Path) -> tuple[dict[str, Any], str]:
    _, front, text = (place / card.FILE).read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def as_if(place: Path, **changes: Any) -> None:
    """Rewrite ``config.json``, and the card after it."""
    path = place / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    card.write(place)


def test_the_card_of_random_weights(made: Path) -> None:
    values, text = front_matter(made)
    assert values["library_name"] == "mlx-audio-turbo"
    assert values["pipeline_tag"] == "text-to-speech"
    assert values["license"] == "mit" and "mlx" in values["tags"]
    assert "base_model" not in values
    assert "random" in text
    size = (made / "model.safetensors").stat().st_size / 1e6
    assert f"{size:,.1f} |" in text
    for part in card.PARTS:
        assert f"`{part}`" in text
    for needed in (
        "mlx_audio_turbo.tts --model",
        "from mlx_audio_turbo import ChatterboxTurbo",
        "reference clip",
        "Clone only voices whose owners agreed",
        "Perth",
        "MIT",
    ):
        assert needed in text
    assert voices.WARNING not in text


def test_the_card_of_a_published_checkpoint(made: Path) -> None:
    name, sha = "ResembleAI/chatterbox-turbo", "a" * 40
    as_if(made, source={"repository": name, "revision": sha, "trained": True}, variant="turbo")
    values, text = front_matter(made)
    assert values["base_model"] == [name] and "base_model_relation" not in values
    assert "random" not in text and sha in text
    quantization = {"bits": 4, "group_size": 64, "quantized_components": ["t3.tfmr.h"]}
    as_if(made, quantization=quantization)
    values, text = front_matter(made)
    assert values["base_model_relation"] == "quantized"
    assert "# Chatterbox Turbo on MLX, 4-bit" in text and "not quantised" in text
    assert "Matrices and tables are float16" in text


def test_the_card_tells_of_a_built_in_voice(made: Path) -> None:
    (made / voices.TARGET).touch()
    card.write(made)
    assert voices.WARNING in front_matter(made)[1]


def test_publishing_asks_first(made: Path) -> None:
    asked: list[str] = []

    def no(summary: str) -> bool:
        asked.append(summary)
        return False

    hub = Hub()
    assert publish.publish(made, "me/model", private=False, confirm=no, api=hub) is None
    assert hub.calls == []
    (summary,) = asked
    assert "me/model (PUBLIC" in summary and "random" in summary
    for path in made.iterdir():
        assert f"{path.stat().st_size:,} bytes  {path.name}" in summary


def test_publishing(made: Path) -> None:
    hub = Hub()
    address = publish.publish(made, "me/model", private=True, confirm=lambda _: True, api=hub)
    assert address == "https://huggingface.co/me/model"
    (made_repository, upload) = hub.calls
    assert made_repository == ("me/model", {"private": True, "exist_ok": True})
    assert upload[1]["folder_path"] == str(made) and upload[1]["repo_id"] == "me/model"
    assert set(upload[1]["allow_patterns"]) == {path.name for path in made.iterdir()}


def test_the_hub_refuses(made: Path) -> None:
    hub = Hub(OSError("no such token"))
    with pytest.raises(DownloadError, match=r"no such token.*hf auth login"):
        publish.publish(made, "me/model", private=False, confirm=lambda _: True, api=hub)


@pytest.mark.parametrize("name", ["model", "a/b/c", "/x", "x/", ""])
def test_impossible_hub_names_are_refused(made: Path, name: str) -> None:
    with pytest.raises(ModelFolderError, match="owner/name"):
        publish.publish(made, name, private=False, confirm=lambda _: True, api=Hub())


@pytest.mark.parametrize("name", publish.REQUIRED)
def test_only_whole_folders(made: Path, name: str) -> None:
    (made / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        publish.publish(made, "me/model", private=False, confirm=lambda _: True, api=Hub())


def test_only_files_of_the_model_are_uploaded(made: Path) -> None:
    (made / "notes.txt").touch()
    with pytest.raises(ModelFolderError, match=r"notes\.txt"):
        publish.publish(made, "me/model", private=False, confirm=lambda _: True, api=Hub())


def test_damaged_weights_are_not_uploaded(made: Path) -> None:
    path = made / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match="cut short"):
        publish.publish(made, "me/model", private=False, confirm=lambda _: True, api=Hub())


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("yes", 0), ("", 1), ("n", 1)])
def test_the_command_asks(
    answer: str, code: int, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert main(["publish", str(made), "--repo", "me/model"]) == code
    assert bool(hub.calls) == (code == 0)
    out = capsys.readouterr().out
    assert ("https://huggingface.co/me/model" if code == 0 else "Nothing was uploaded.") in out


def test_without_a_terminal_publishing_needs_yes(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(["publish", str(made), "--repo", "me/model"]) == 2
    assert hub.calls == []
    assert main(["publish", str(made), "--repo", "me/model", "--yes"]) == 0
    assert len(hub.calls) == 2


def test_nothing_else_writes_to_the_hub() -> None:
    """No other module knows how, and only the command imports the one that does."""
    writes = {
        "HfApi",
        "create_repo",
        "create_commit",
        "create_branch",
        "upload_file",
        "upload_folder",
        "upload_large_folder",
        "push_to_hub",
        "CommitOperationAdd",
    }
    for path in [*(ROOT / "mlx_audio_turbo").rglob("*.py"), *(ROOT / "convert").rglob("*.py")]:
        tree = ast.parse(path.read_text("utf-8"))
        names = {
            getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
            for node in ast.walk(tree)
        }
        text = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
        if path.name != "publish.py":
            assert not writes & (names | text), path
        imported = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.alias) and node.name.split(".")[-1] == "publish"
        ]
        assert not imported or path == ROOT / "convert" / "__main__.py", path
