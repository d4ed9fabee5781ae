"""Make a voice once, save it, and use it again: python examples/voice_reuse.py CLIP [MODEL]"""

import sys

from mlx_audio_turbo import ChatterboxTurbo, Voice, VoiceLibrary

clip, model_name = [*sys.argv[1:], "ResembleAI/chatterbox-turbo"][:2]
model = ChatterboxTurbo.from_pretrained(model_name)

# As a file ...
model.encode_voice(clip).save("anna.safetensors")
voice = Voice.load("anna.safetensors")

# ... or by name, with a note of consent; `mlx_audio_turbo.tts --voice anna` finds it too.
library = VoiceLibrary("voices")  # without an argument: the user's library
library.add("anna", voice, clip=clip, consent="read for us by Anna", replace=True)

sentences = ["First one thing.", "Then another.", "And that was all."]
for number, speech in enumerate(
    model.generate_batch(sentences, voice=library.get("anna").voice, seed=1)
):
    print(speech.save(f"sentence-{number}.wav"))
