"""Record what ``demo`` says in three voices, for ``tests/test_demo.py``.

Run: ``python -m tests.measure.demo_goldens``, after a change of the weights of ``demo``. A change
of the code must leave the record as it is.
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_audio_turbo import ChatterboxTurbo, Speech
from mlx_audio_turbo.encoders.features import prompt_mel

PATH = Path(__file__).parents[1] / "data" / "demo_speech.npz"
SENTENCES = {
    "rms": "The bus was late again, and everybody was annoyed.",
    "slt": "Could you lend me an umbrella until Friday?",
    "awb": "A gray cat was sleeping on top of the piano.",
}


def speak(demo: ChatterboxTurbo, voice: str) -> Speech:
    """The sentence of a voice, from the likeliest tokens."""
    return demo.generate(SENTENCES[voice], voice=demo.load_voice(voice), temperature=0, seed=1)


def sketch(audio: np.ndarray) -> np.ndarray:
    """Levels (T, 80) of an utterance in dB, in mel bands, 25 times a second."""
    return (20 / np.log(10)) * prompt_mel(audio)[::2]


def distance(ours: np.ndarray, recorded: np.ndarray) -> float:
    """The root mean square of the difference of two sketches in dB; infinite for other lengths."""
    if ours.shape != recorded.shape:
        return float("inf")
    return float(np.sqrt(np.mean((ours - recorded.astype(np.float32)) ** 2)))


def main() -> None:
    """Write the file and print its size."""
    mx.set_default_device(mx.cpu)
    demo = ChatterboxTurbo.from_pretrained("demo")
    arrays: dict[str, np.ndarray] = {}
    for voice in SENTENCES:
        speech = speak(demo, voice)
        arrays[f"{voice}.tokens"] = speech.tokens.astype(np.int16)
        arrays[f"{voice}.sketch"] = np.round(sketch(speech.audio), 1).astype(np.float16)
    np.savez_compressed(PATH, **arrays)  # pyright: ignore[reportArgumentType]
    print(f"{len(arrays)} arrays, {PATH.stat().st_size:,} bytes: {PATH}")


if __name__ == "__main__":
    main()
