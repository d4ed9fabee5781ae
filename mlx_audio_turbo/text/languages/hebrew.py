"""Hebrew: vowel signs (niqqud) are added where the text has none."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tokenizers import Tokenizer

from ...errors import ExtraError
from .library import Step, import_library

MODEL_VARIABLE = "MLX_AUDIO_TURBO_DICTA"
"""The environment variable with the path of the model file (ONNX) of dicta-onnx."""
_TOKENIZER = "tokenizer.json"
_LETTER = re.compile("[\u05d0-\u05ea]")
_NIQQUD = re.compile("[\u05b0-\u05bc\u05c1\u05c2\u05c7]")


def load(folder: Path) -> Step:
    """The step of Hebrew. Text that has vowel signs stays as it is and needs no library."""
    del folder
    added: list[Step] = []

    def step(text: str) -> str:
        if _NIQQUD.search(text) or not _LETTER.search(text):
            return text
        if not added:
            added.append(_load_dicta())
        return added[0](text)

    return step


def _load_dicta() -> Step:
    """What adds the signs.

    Raises:
        ExtraError: dicta-onnx, its model or its tokenizer is not there.
    """
    library = import_library(
        "dicta_onnx.model", package="dicta-onnx", language="Hebrew without niqqud"
    )
    model = Path(os.environ.get(MODEL_VARIABLE, "")).expanduser()
    tokenizer = model.with_name(_TOKENIZER) if model.name else model
    if not model.is_file() or not tokenizer.is_file():
        raise ExtraError(
            f"Hebrew without niqqud needs the model of dicta-onnx; set {MODEL_VARIABLE} to its "
            f"path, with {_TOKENIZER} of dictabert-large-char-menaked beside it, or give text with "
            "niqqud"
        )
    runtime = import_library("onnxruntime", package="onnxruntime", language="Hebrew")
    # Its constructor would download the tokenizer.
    dicta = object.__new__(library.OnnxDiacritizationModel)
    dicta.tokenizer = Tokenizer.from_file(str(tokenizer))
    dicta.session = runtime.InferenceSession(str(model))
    dicta.input_names = [each.name for each in dicta.session.get_inputs()]
    dicta.output_names = [each.name for each in dicta.session.get_outputs()]
    return lambda text: dicta.predict([text], mark_matres_lectionis=None)[0]
