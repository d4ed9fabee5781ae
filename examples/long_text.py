"""A chapter, segment by segment, in the memory of one segment:

python examples/long_text.py CLIP [MODEL] [TEXT_FILE]
"""

import sys
from pathlib import Path

from mlx_audio_turbo import ChatterboxTurbo, PauseOptions, TrimOptions, split_text, write_blocks

clip, *more = sys.argv[1:]
model_name = more[0] if more else "ResembleAI/chatterbox-turbo"
chapter = "\n\n".join(f"Paragraph {n} says a few words, and ends. " * 5 for n in range(3))
if len(more) > 1:
    chapter = Path(more[1]).read_text("utf-8")

model = ChatterboxTurbo.from_pretrained(model_name)
voice = model.encode_voice(clip)
total = len(split_text(chapter))


def parts():
    speeches = model.generate_parts(
        chapter, voice=voice, seed=1, trim=TrimOptions(), pauses=PauseOptions(paragraph=1.0)
    )
    for number, speech in enumerate(speeches, 1):
        print(f"{number} of {total}: {speech.text[:50]}")
        yield speech.audio


print(write_blocks("chapter.wav", parts(), 24_000))
