"""The model ``tiny``: untrained, small, made on the spot without the network."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlx_audio_turbo.presets import TINY

from .. import folder, upstream
from . import checkpoint as synthetic


def ensure(cache: Path) -> Path:
    """The folder of the model ``tiny`` in float32, made in ``cache`` where it is not there yet.

    Raises:
        ModelFolderError: the cache cannot be written.
    """
    output = cache / f"tiny-{folder.cache_key(TINY, synthetic.RECIPE_VERSION)}"
    if not (output / "config.json").is_file():
        with tempfile.TemporaryDirectory() as place:
            checkpoint = Path(place) / "tiny"
            synthetic.write_checkpoint(checkpoint, config=TINY, name="tiny")
            source = upstream.recognise(checkpoint)
            folder.make_once(output, lambda: folder.convert(source, output, dtype="float32"))
    return output
