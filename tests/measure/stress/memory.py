"""Memory and time of a conversion: anonymous memory, which the pages of a mapped file are not.

    python -m tests.measure.stress.memory --source DIR [build options]

Linux only: it reads RssAnon of /proc.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1_500_000_000
"""Bytes, for Turbo in float16."""


def measure(options: list[str]) -> tuple[int, float]:
    """The most anonymous memory of ``build`` with ``options``, in bytes, and its seconds."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        command = [sys.executable, "-m", "mlx_audio_turbo_convert", "build", *options]
        started = time.monotonic()
        process = subprocess.Popen([*command, "--output", f"{place}/model"])
        most = 0
        while process.poll() is None:
            most = max(most, _anonymous(process.pid))
            time.sleep(0.01)
        assert process.returncode == 0
        return most, time.monotonic() - started


def _anonymous(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    return 1024 * int(found[1]) if found else 0


def main() -> int:
    """Run the command; 1 where the memory is over the limit."""
    parser = argparse.ArgumentParser(description="Memory and time of a conversion.")
    parser.add_argument("--source", required=True)
    args, options = parser.parse_known_args()
    most, seconds = measure(["--source", args.source, *options])
    print(f"RssAnon {most / 1e6:,.0f} MB at most (limit {LIMIT / 1e6:,.0f}), {seconds:.1f} s")
    return 0 if most < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
