"""A sentence in the voice of a clip: python examples/quick_start.py CLIP [MODEL]"""

import sys

from mlx_audio_turbo import ChatterboxTurbo

clip, model_name = [*sys.argv[1:], "ResembleAI/chatterbox-turbo"][:2]

model = ChatterboxTurbo.from_pretrained(model_name)  # "tiny" needs no network; it makes noise
speech = model.generate(
    "Oh, that's hilarious! [chuckle] Um anyway, we do have a new model in store.",
    ref_audio=clip,
    seed=7,
)
path = speech.save("quick_start.wav")
print(f"{path}: {speech.duration:.1f} s, real-time factor {speech.real_time_factor:.2f}")
