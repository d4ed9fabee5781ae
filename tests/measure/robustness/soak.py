"""Many short generations, of mixed voices and from several threads, while memory is watched."""

from __future__ import annotations

import gc
import resource
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, Voice

SETTLED = 10
"""Generations until buffers and caches have their size."""
TEXTS = (
    "Hello there.",
    "[chuckle] Well, that was a surprise, wasn't it?",
    "One. Two. Three.",
    "مرحبا بالعالم",
    "A sentence that goes on for a little while, so that not all of them are of one length.",
)


@dataclass(frozen=True)
class Soak:
    """growth: bytes of memory at the end over what it was after the tenth generation.

    highest: the same at the worst moment in between.
    """

    generations: int
    threads: int
    voices: int
    growth: int
    highest: int


def soak(model: ChatterboxTurbo, voice: Voice, *, generations: int, threads: int = 4) -> Soak:
    """Speak ``generations`` times.

    Raises:
        AssertionError: audio of another length than its tokens say, or other audio for the same
            seed, text and voice.
    """
    voices = [voice, *(_mixed(voice, seed) for seed in range(1, 4))]
    work: SimpleQueue[int] = SimpleQueue()
    for number in range(generations):
        work.put(number)
    memory: list[int] = []
    received: dict[tuple[int, int], bytes] = {}
    errors: list[BaseException] = []

    def speak() -> None:
        try:
            while True:
                number = work.get_nowait()
                text, who = number % len(TEXTS), number % len(voices)
                options = {"voice": voices[who], "seed": 7, "max_tokens": 4 + text}
                if number % 3:
                    speech = model.generate(TEXTS[text], **options)  # type: ignore[arg-type]
                    assert len(speech.audio) == 960 * (len(speech.tokens) + 3)
                    assert received.setdefault((text, who), speech.audio.tobytes()) == (
                        speech.audio.tobytes()
                    )
                else:
                    chunks = model.stream(TEXTS[text], **options)  # type: ignore[arg-type]
                    assert sum(len(chunk.audio) for chunk in chunks)
                memory.append(used_memory())
        except Empty:
            pass
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=speak) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    gc.collect()
    settled = max(memory[:SETTLED])
    return Soak(
        generations=len(memory),
        threads=threads,
        voices=len(voices),
        growth=used_memory() - settled,
        highest=max(memory[SETTLED:]) - settled,
    )


def _mixed(voice: Voice, seed: int) -> Voice:
    rng = np.random.default_rng(seed)
    vector = voice.speaker_embedding + 0.1 * rng.standard_normal(voice.speaker_embedding.shape)
    return replace(voice, speaker_embedding=vector / np.linalg.norm(vector))


def used_memory() -> int:
    """Bytes of this process that no file backs; where the system does not tell, its peak."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
