"""Other implementations, each a process of its own environment that answers with seconds.

Their scripts and environments belong to the repository (``tests/measure/peers``,
``make benchmark-peers``), not to the installed package.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import TracebackType

from ..errors import OptionError
from .measure import Times
from .workload import Workload

ROOT = Path(__file__).resolve().parents[2]


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


def _python(environment: str, variable: str) -> Path:
    return Path(os.environ.get(variable, ROOT / environment / "bin" / "python"))


def kinds() -> dict[str, PeerKind]:
    """What ``--against`` knows. ``REFERENCE_PYTHON`` and ``MLX_AUDIO_PYTHON`` name environments
    that stand elsewhere."""
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
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
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
        self._said.close()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._said.seek(0)
            last = (self._said.read().strip() or "no word").splitlines()[-1]
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
        """Times of the very utterance."""
        return self.utterance(
            utterance.decoded,
            len(utterance.tokens),
            len(utterance.prompt_tokens),
            len(utterance.t3_prompt_tokens),
        )

    def scaled(self, utterance: Workload, *, tokens: int) -> Times:
        """Times of ``tokens`` behind as many, scaled up as if cost grew with length alone.

        For peers too slow to wait for. Attention grows faster than that, so the figure flatters
        the peer. The first request, which warms up, is thrown away.
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


def in_turn(measures: Sequence[Callable[[], Times]], repeats: int) -> list[Times]:
    """A B A B …: each measure's times over all rounds."""
    results: list[Times] = [{} for _ in measures]
    for _ in range(repeats):
        for result, measure in zip(results, measures, strict=True):
            for name, seconds in measure().items():
                result.setdefault(name, []).extend(seconds)
    return results


def ratio(a: Times, b: Times, *names: str) -> float:
    """The median over rounds of a's seconds in ``names`` over b's, round by round."""
    rounds = min(len(times[name]) for times in (a, b) for name in names)
    return median(
        sum(a[name][i] for name in names) / sum(b[name][i] for name in names) for i in range(rounds)
    )
