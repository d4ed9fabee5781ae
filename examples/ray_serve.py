"""The server in replicas, by Ray Serve: python examples/ray_serve.py VOICE [MODEL] [REPLICAS]

Each replica is the whole server with a model of its own, and decodes its listeners together. The
voices are a folder that all of them see (MLX_AUDIO_TURBO_VOICES); VOICE speaks where none is named.
"""

import sys

from ray import serve  # pyright: ignore[reportMissingImports]

from mlx_audio_turbo.server.app import create_app
from mlx_audio_turbo.server.settings import ServerSettings

PLACES = 16
"""Listeners of a replica; Ray holds the others back."""


def application(voice: str, model: str, replicas: int) -> serve.Application:
    settings = ServerSettings(default_voice=voice, max_active=PLACES)
    replica = serve.ingress(lambda: create_app([model], settings=settings))(type("Speech", (), {}))
    return serve.deployment(replica, num_replicas=replicas, max_ongoing_requests=PLACES).bind()


if __name__ == "__main__":
    given = sys.argv[1:]
    voice, model, replicas = [*given, *("", "ResembleAI/chatterbox-turbo", "2")[len(given) :]]
    serve.run(application(voice, model, int(replicas)), blocking=True)
