"""One model, many requests at once, from asyncio: python examples/many_requests.py CLIP [MODEL]

The model works on its own thread and takes requests in turn, one step at a time. Any number of
threads or coroutines may call it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator

from mlx_audio_turbo import AudioChunk, ChatterboxTurbo, Voice

clip, model_name = [*sys.argv[1:], "ResembleAI/chatterbox-turbo"][:2]


async def stream(model: ChatterboxTurbo, text: str, voice: Voice) -> AsyncIterator[AudioChunk]:
    chunks = model.stream(text, voice=voice, seed=3)
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk


async def listen(model: ChatterboxTurbo, text: str, voice: Voice) -> None:
    seconds = 0.0
    async for chunk in stream(model, text, voice):
        seconds += len(chunk.audio) / chunk.sample_rate
        print(f"{text!r}: {seconds:.2f} s so far")


async def main() -> None:
    model = await asyncio.to_thread(ChatterboxTurbo.from_pretrained, model_name)
    voice = await asyncio.to_thread(model.encode_voice, clip)
    whole = asyncio.to_thread(model.generate, "The whole at once.", voice=voice, seed=3)
    streams = [listen(model, text, voice) for text in ("Good morning.", "Good night.")]
    speech, *_ = await asyncio.gather(whole, *streams)
    print(speech)


asyncio.run(main())
