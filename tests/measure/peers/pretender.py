"""A peer that runs nothing, for the tests of the conversation with peers."""

from __future__ import annotations

import sys
import time

from . import worker


class Pretender:
    """Takes a thousandth of a second a token, a hundredth for the flow, and prints where it may."""

    def versions(self) -> dict[str, str]:
        return {"pretender": "1"}

    def tokens(self, count: int, prompt: int) -> list[float]:
        print("this must not end up among the answers")
        started = time.perf_counter()
        return [started + 0.001 * (prompt + number) for number in range(count)]

    def audio(self, tokens: int, prompt: int) -> tuple[float, float]:
        if tokens == 13:
            sys.exit("thirteen tokens")
        return 0.01 * (tokens + prompt), 0.02 * tokens


def main() -> None:
    args = worker.parser(__doc__).parse_args()
    assert len(worker.inputs(args.workload).tokens)
    with worker.quiet_output() as answers:
        worker.serve(Pretender(), answers)


if __name__ == "__main__":
    main()
