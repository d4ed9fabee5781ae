"""The untrained, small models that are made on the spot without the network."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlx_audio_turbo.presets as presets
from mlx_audio_turbo.config import ModelConfig

from .. import cache as caching
from .. import folder, source
from . import checkpoint as synthetic

SIZES: Mapping[str, tuple[str, ModelConfig]] = {
    "tiny": (presets.TURBO_TYPE, presets.TINY),
    "tiny-original": (presets.ORIGINAL_TYPE, presets.TINY_ORIGINAL),
    "tiny-multilingual": (presets.MULTILINGUAL_TYPE, presets.TINY_MULTILINGUAL),
}
"""Type and sizes of each of ``presets.MADE``."""


def ensure(cache: Path, name: str = "tiny") -> Path:
    """The folder of one of ``SIZES`` in float32, made in ``cache`` where it is not there yet.

    Raises:
        ModelFolderError: the cache cannot be written.
    """
    model_type, config = SIZES[name]
    output = cache / f"{name}-{caching.cache_key(config, synthetic.RECIPE_VERSION)}"
    if not (output / "config.json").is_file():
        with tempfile.TemporaryDirectory() as place:
            checkpoint = Path(place) / name
            synthetic.write_checkpoint(checkpoint, config=config, name=name, model_type=model_type)
            found = source.recognise(checkpoint)
            caching.make_once(output, lambda: folder.convert(found, output, dtype="float32"))
    return output
