"""Play audio while the rest is generated (pip install sounddevice):

python examples/stream_to_sound_card.py CLIP [MODEL] [--dry-run]
"""

import sys
import time

import numpy as np

from mlx_audio_turbo import ChatterboxTurbo

dry_run = "--dry-run" in sys.argv
arguments = [word for word in sys.argv[1:] if not word.startswith("--")]
clip, model_name = [*arguments, "ResembleAI/chatterbox-turbo"][:2]

model = ChatterboxTurbo.from_pretrained(model_name)
voice = model.encode_voice(clip)

card = None
if not dry_run:
    import sounddevice

    card = sounddevice.OutputStream(samplerate=24_000, channels=1, dtype="float32", latency=0.2)

started = time.perf_counter()
for chunk in model.stream("It speaks before it knows how the sentence ends.", voice=voice):
    after = time.perf_counter() - started
    print(f"{after:5.2f} s: chunk {chunk.index}, {len(chunk.audio) / chunk.sample_rate:.2f} s")
    if card:
        if chunk.index == 0:
            card.start()
        card.write(chunk.audio[:, None])  # waits until the card can take it
if card:
    # On some systems stopping discards buffered audio: end with silence.
    card.write(np.zeros((7_200, 1), np.float32))
    card.stop()
