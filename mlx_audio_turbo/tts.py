"""``python -m mlx_audio_turbo.tts``: the command that speaks."""

import sys

from .cli.tts import main

if __name__ == "__main__":
    sys.exit(main())
