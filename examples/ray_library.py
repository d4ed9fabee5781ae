"""A library of books by Ray Data: python examples/ray_library.py BOOKS OUTPUT VOICE [MODEL]

BOOKS is a folder of text files, VOICE a saved voice; OUTPUT gets the audio and a manifest. Each
book has its own seed: one that is spoken again, after its actor died, is the same to the bit.
"""

import hashlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import ray.data  # pyright: ignore[reportMissingImports]

from mlx_audio_turbo import ChatterboxTurbo, Voice, write_blocks


class Reader:
    def __init__(self, output: str, voice: str, model: str):
        self.output, self.voice = Path(output), Voice.load(voice)
        self.model = ChatterboxTurbo.from_pretrained(model)

    def __call__(self, books: dict[str, np.ndarray]) -> dict[str, list]:
        book = Path(books["item"][0])
        seed, path = zlib.crc32(book.stem.encode()), self.output / f"{book.stem}.flac"
        parts = self.model.generate_parts(book.read_text("utf-8"), voice=self.voice, seed=seed)
        write_blocks(path, (part.audio for part in parts), 24_000)  # appears whole or not at all
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return {"audio": [path.name], "seed": [seed], "sha256": [digest]}


def speak(books: str, output: str, voice: str, model: str, *, actors: int, reader=Reader) -> None:
    Path(output).mkdir(exist_ok=True)
    texts = sorted(map(str, Path(books).glob("*.txt")))
    spoken = ray.data.from_items(texts, override_num_blocks=len(texts)).map_batches(
        reader, fn_constructor_args=(output, voice, model), batch_size=1, concurrency=actors
    )
    manifest = sorted(spoken.take_all(), key=lambda row: row["audio"])
    Path(output, "manifest.json").write_text(json.dumps(manifest, indent=1), "utf-8")


if __name__ == "__main__":
    speak(*[*sys.argv[1:], "ResembleAI/chatterbox-turbo"][:4], actors=2)
