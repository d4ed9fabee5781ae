"""The tensors of a checkpoint under our names, whole and exact, one in memory at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

import numpy as np

from mlx_audio_turbo.errors import ModelFolderError
from mlx_audio_turbo.loading.networks import parameter_shapes

from . import layout, rules
from .mapping import RULES
from .safetensors_writer import Reader
from .source import Source


class SourceTensors:
    """What the mapping tables make of ``source``: an iterable of pairs of a name and an array.

    Raises:
        ModelFolderError: a file is damaged or does not fit the model; while the pairs are made, a
            weight that is not finite.
    """

    def __init__(self, source: Source, *, missing: Collection[str] = ()):
        self._source = source
        self._readers: dict[str, Reader] = {}
        for file in source.weights:
            reader = Reader(file, remedy=source.remedy(file.name))
            for name in reader.tensors:
                if name in self._readers:
                    raise ModelFolderError(
                        f"{name!r} is both in {self._readers[name].path} and {file}; "
                        f"{source.remedy(file.name)}"
                    )
                self._readers[name] = reader
        self._shapes = parameter_shapes(source.config, missing=missing)
        self._plan = rules.plan(RULES[source.config.t3.kind], self._readers)
        kept = tuple(
            step
            for step in self._plan.steps
            if not any(step.target.startswith(f"{network}.") for network in missing)
        )
        self._plan = dataclasses.replace(self._plan, steps=kept)

    @property
    def folded(self) -> set[str]:
        """The targets that are computed and not only moved."""
        return {step.target for step in self._plan.steps if step.move not in layout.MOVES}

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        return rules.apply(self._plan, self._read, self._shapes)

    def _read(self, name: str) -> np.ndarray:
        reader = self._readers[name]
        array = reader.read(name)
        if not is_finite(array):
            raise ModelFolderError(
                f"{reader.path} is damaged: {name!r} has weights that are not finite; "
                f"{self._source.remedy(reader.path.name)}"
            )
        return array


def is_finite(array: np.ndarray) -> bool:
    """Whether no value is NaN or infinite."""
    # min and max carry both through, without an array of booleans
    return not array.size or bool(np.isfinite(array.min()) and np.isfinite(array.max()))
