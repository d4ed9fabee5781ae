"""The model ``tiny``: untrained, small, made on the spot without the network."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from mlx_audio_turbo.config import TINY, to_dict

from . import folder, synthetic, upstream


def ensure(cache: Path) -> Path:
    """The folder of the model ``tiny`` in float32, made in ``cache`` where it is not there yet.

    Raises:
        ModelFolderError: the cache cannot be written.
    """
    version = f"{synthetic.RECIPE_VERSION} {folder.CACHE_VERSION} {to_dict(TINY)}"
    output = cache / f"tiny-{hashlib.sha256(version.encode()).hexdigest()[:16]}"
    if not (output / "config.json").is_file():
        with tempfile.TemporaryDirectory() as place:
            checkpoint = Path(place) / "tiny"
            synthetic.write_checkpoint(checkpoint, config=TINY, name="tiny")
            source = upstream.recognise(checkpoint)
            folder.make_once(output, lambda: folder.convert(source, output, dtype="float32"))
    return output
