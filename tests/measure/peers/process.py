"""Other implementations, each a process of its own environment that answers with seconds.

``make benchmark-peers`` sets the environments up.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from mlx_audio_turbo.benchmark.measure import Times
from mlx_audio_turbo.benchmark.workload import Workload
from mlx_audio_turbo.config import ModelConfig
from mlx_audio_turbo.errors import OptionError
from mlx_audio_turbo.presets import TURBO_TYPE
from mlx_audio_turbo_convert.synthetic.checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parents[3]
SEED = 20_26
"""Of the random checkpoint; the same as in ``make parity``."""


@dataclass(frozen=True)
class PeerKind:
    """How a peer is started.

    python: of its environment, below the repository.
    script: a module of ``tests.measure.peers``.
    same_blas: gives its matrix products the library that ours run with.
    """

    title: str
    python: Path
    script: str
    same_blas: bool = False


def ready(folder: Path, config: ModelConfig, model_type: str = TURBO_TYPE) -> Path:
    """The random checkpoint of these sizes, written if it is absent."""
    if not (folder / "config.json").exists():
        write_checkpoint(folder, config=config, name=folder.name, model_type=model_type, seed=SEED)
    return folder


def _python(environment: str, variable: str) -> Path:
    return Path(os.environ.get(variable, ROOT / environment / "bin" / "python"))


def kinds() -> dict[str, PeerKind]:
    """The peers by name. ``REFERENCE_PYTHON`` and ``MLX_AUDIO_PYTHON`` name other environments."""
    reference = _python(".venv-reference", "REFERENCE_PYTHON")
    port = _python(".venv-mlx-audio", "MLX_AUDIO_PYTHON")
    return {
        "reference": PeerKind("PyTorch reference", reference, "reference"),
        "mlx-audio": PeerKind("mlx-audio, same BLAS", port, "mlx_audio_turbo_port", True),
        "mlx-audio-as-installed": PeerKind("mlx-audio as installed", port, "mlx_audio_turbo_port"),
    }


class Peer:
    """A running peer; leaving the context ends it."""

    def __init__(self, kind: PeerKind, checkpoint: Path, inputs: Path, library: str | None):
        if not kind.python.exists():
            raise OptionError(
                f"no environment of the {kind.title} at {kind.python}; "
                "run `make benchmark-peers` in a clone of the repository"
            )
        command = [str(kind.python), "-m", f"tests.measure.peers.{kind.script}"]
        command += ["--checkpoint", str(checkpoint), "--workload", str(inputs)]
        if kind.same_blas and library:
            command += ["--blas", library]
        self.title = kind.title
        self._messages = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
        )
        self.versions: dict[str, str] = self._answer()["versions"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._messages.close()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._messages.seek(0)
            last = (self._messages.read().strip() or "no message").splitlines()[-1]
            raise OptionError(f"the {self.title} ended with code {code}: {last}")
        return json.loads(line)

    def _ask(self, **request: object) -> Times:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return {name: [seconds] for name, seconds in self._answer().items()}

    def utterance(self, tokens: int, audio_tokens: int, prompt: int, t3_prompt: int) -> Times:
        """Times of an utterance by stage, as ``measure.utterance_times`` gives ours."""
        times = self._ask(stage="tokens", tokens=tokens, prompt=t3_prompt)
        times |= self._ask(stage="audio", tokens=audio_tokens, prompt=prompt)
        return {**times, "whole": [sum(seconds for (seconds,) in times.values())]}

    def whole(self, utterance: Workload) -> Times:
        """Times of this utterance."""
        return self.utterance(
            utterance.decoded,
            len(utterance.tokens),
            len(utterance.prompt_tokens),
            len(utterance.t3_prompt_tokens),
        )

    def scaled(self, utterance: Workload, *, tokens: int) -> Times:
        """Times of ``tokens`` behind as many, scaled up as if cost grew with length alone.

        For peers too slow to wait for. Attention grows faster than that, so the figure flatters
        the peer. The first request, which warms up, is not counted.
        """
        self.utterance(2, 4, 4, 4)
        few = self.utterance(tokens, tokens, tokens, tokens)
        text = len(utterance.text_ids) + 2
        frames = (len(utterance.tokens) + len(utterance.prompt_tokens)) / (2 * tokens)
        factors = {
            "T3 prefill": (text + len(utterance.t3_prompt_tokens)) / (text + tokens),
            "T3 decode": (utterance.decoded - 1) / (tokens - 1),
            "S3Gen": frames,
            "HiFT": len(utterance.tokens) / tokens,
        }
        times = {name: [few[name][0] * factor] for name, factor in factors.items()}
        return {**times, "whole": [sum(seconds for (seconds,) in times.values())]}
