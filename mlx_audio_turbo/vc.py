"""``python -m mlx_audio_turbo.vc``: the command that converts voices."""

import sys

from .cli.voice_conversion import main

if __name__ == "__main__":
    sys.exit(main())
