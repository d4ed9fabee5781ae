"""``python -m mlx_audio_turbo.serve``: the speech server."""

import sys

from .cli.server import main

if __name__ == "__main__":
    sys.exit(main())
