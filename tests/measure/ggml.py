"""Processor time of a token of T3 on one core, in 8 bits, beside ggml's.

    python -m tests.measure.ggml FOLDER [--python .venv-ggml/bin/python]

FOLDER is an 8-bit folder of Turbo. The other side is llama.cpp with a GPT-2 of the same sizes in
``Q8_0``; its environment has ``gguf`` and ``llama-cpp-python``. Both take the same number of tokens
after a prompt of the same length, in turns, without sampling. Both are bound to one core, as Linux
allows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx

from mlx_audio_turbo.loading.folder import load
from mlx_audio_turbo.t3.gpt2_compiled import CompiledForward

from .peers.process import ROOT

PROMPT, TOKENS = 416, 120
"""A voice's prefix with a sentence, and half of ten seconds of speech."""
BOUND, AIM = 1.3, 0.9


def ours(t3: Any) -> float:
    """Processor seconds for ``TOKENS`` tokens."""
    forward, cache = t3.make_forward(), t3.make_cache()
    assert isinstance(forward, CompiledForward), "the compiled kernels are needed"
    width = t3.config.width
    mx.eval(forward(mx.random.normal((1, PROMPT, width), key=mx.random.key(0)), cache, [0]))
    x = mx.random.normal((1, 1, width), key=mx.random.key(1))
    mx.eval(x)
    started = time.process_time()
    for position in range(PROMPT, PROMPT + TOKENS):
        mx.eval(forward(x, cache, [position]))
    return time.process_time() - started


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-ggml" / "bin" / "python")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    t3 = load(args.folder).networks.t3
    config = t3.config
    sizes = {
        "width": config.width,
        "layers": config.layers,
        "heads": config.heads,
        "vocabulary": config.speech_vocabulary,
    }
    with tempfile.TemporaryDirectory() as place:
        command = [str(args.python), "-m", "tests.measure.peers.ggml_worker"]
        command += ["--sizes", json.dumps(sizes), "--file", str(Path(place, "t3.gguf"))]
        command += ["--prompt", str(PROMPT), "--room", "1024"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            version = json.loads(worker.stdout.readline())["version"]

            def theirs() -> float:
                assert worker.stdin is not None and worker.stdout is not None
                print(TOKENS, file=worker.stdin, flush=True)
                return float(worker.stdout.readline())

            # The first round warms both up.
            pairs = [(ours(t3), theirs()) for _ in range(args.rounds + 1)][1:]
            worker.stdin.close()
    mine, other = (1000 * median(each) / TOKENS for each in zip(*pairs, strict=True))
    ratio = median(a / b for a, b in pairs)
    print(
        f"processor time a token, one core, 8 bits: {mine:.1f} ms, ggml {other:.1f} ms "
        f"(llama-cpp-python {version}), {ratio:.2f} x (bound {BOUND}, aim {AIM})"
    )
    return int(ratio > BOUND)


if __name__ == "__main__":
    sys.exit(main())
