"""``python -m mlx_audio_turbo.voices``: the command that keeps voices by name."""

import sys

from .cli.voices import main

if __name__ == "__main__":
    sys.exit(main())
