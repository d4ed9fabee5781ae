"""``README.md`` of a model folder: what it holds, measured, and how it may be used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlx_audio_turbo.presets import MULTILINGUAL_TYPE, ORIGINAL_TYPE, TURBO_TYPE

from . import builtin_voice
from .published import MODELS
from .safetensors_writer import Reader

FILE = "README.md"
PARTS: Mapping[str, str] = {
    "t3": "T3: text to speech tokens",
    "s3gen.flow": "S3Gen: speech tokens to mel",
    "s3gen.mel2wav": "HiFT: mel to samples",
    "s3gen.speaker_encoder": "CAM++: the speaker embedding of S3Gen",
    "ve": "VoiceEncoder: the speaker embedding of T3",
    "s3tokenizer": "S3 tokenizer: a clip to speech tokens",
}
BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"
"""Between them stands the table of ``mlx_audio_turbo.convert compare``."""


@dataclass(frozen=True)
class Example:
    """How a model is used: its class, a text, and options of the call and of the command."""

    model: str
    text: str
    options: str = ""
    flags: str = ""


EXAMPLES: Mapping[str, Example] = {
    TURBO_TYPE: Example("ChatterboxTurbo", "Oh, that's hilarious! [chuckle]"),
    ORIGINAL_TYPE: Example(
        "Chatterbox", "I did not expect that at all!", ", exaggeration=0.7", " --exaggeration 0.7"
    ),
    MULTILINGUAL_TYPE: Example(
        "ChatterboxMultilingual", "Bonjour, tout le monde.", ', language="fr"', " --language fr"
    ),
}
LANGUAGES = (
    *("ar", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "it", "ja"),
    *("ko", "ms", "nl", "no", "pl", "pt", "ru", "sv", "sw", "tr", "zh"),
)
"""Of the multilingual model."""

UNTRAINED = (
    "**The weights in this folder are random**, not trained: the output is noise. It is for "
    "tests, demonstrations and measurements of speed."
)
ARITHMETIC = (
    "These figures come from untrained, random weights. They show that the arithmetic is right; "
    "they do not show how the audio sounds."
)


def write(folder: Path, *, errors: Mapping[str, float] | None = None) -> None:
    """Put the card into a ``folder`` that has its weights and ``config.json``.

    Args:
        errors: of each quantised layer, |quantised - original| / |original|.
    """
    config = json.loads((folder / "config.json").read_text("utf-8"))
    sections = [
        _front_matter(config),
        _introduction(folder, config),
        _use(folder, config),
        _contents(folder, config, errors or {}),
        f"{BEGIN}\n{END}",
        _responsibility(folder),
    ]
    (folder / FILE).write_text("\n\n".join(sections) + "\n", "utf-8")


def set_accuracy(folder: Path, table: str, *, trained: bool) -> None:
    """Put the table that compares bit widths on the card of ``folder``, or in place of an older."""
    path = folder / FILE
    text = path.read_text("utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        head, tail = text.rstrip() + "\n\n", "\n"
    note = "" if trained else f"\n\n{ARITHMETIC}"
    section = f"## Against full precision\n\n{table}{note}"
    path.write_text(f"{head}{BEGIN}\n{section}\n{END}{tail}", "utf-8")


def weight_bytes(folder: Path) -> tuple[int, int]:
    """Bytes of a folder's weights, and of those without the S3 tokenizer."""
    reader = Reader(folder / "model.safetensors")
    part = sum(
        tensor.bytes for name, tensor in reader.tensors.items() if name.startswith("s3tokenizer.")
    )
    whole = reader.path.stat().st_size
    return whole, whole - part


def _front_matter(config: Mapping[str, Any]) -> str:
    multilingual = config["model_type"] == MULTILINGUAL_TYPE
    languages = LANGUAGES if multilingual else ("en",)
    lines = ["library_name: mlx-audio-turbo", "license: mit", "language:"]
    lines += [f"- {language}" for language in languages]
    base = _base(config)
    if base:
        lines += ["base_model:", f"- {base}"]
        if config.get("quantization"):
            lines.append("base_model_relation: quantized")
    tags = ["mlx", "text-to-speech", "voice-cloning", "chatterbox"]
    lines += ["pipeline_tag: text-to-speech", "tags:", *(f"- {tag}" for tag in tags)]
    return "\n".join(["---", *lines, "---"])


def _base(config: Mapping[str, Any]) -> str | None:
    """The published model that the weights are of; None for random ones."""
    source = config["source"]
    if not source["trained"]:
        return None
    known = MODELS.get(config["variant"])
    return source["repository"] or (known.repository if known else None)


def _introduction(folder: Path, config: Mapping[str, Any]) -> str:
    source = config["source"]
    name = str(config["variant"]).replace("-", " ").capitalize()
    title = f"# Chatterbox {name} on MLX, {precision(config)}"
    base = _base(config)
    unnamed = "a local checkpoint" if source["trained"] else "a checkpoint made for tests"
    origin = f"[{base}](https://huggingface.co/{base})" if base else unnamed
    revision = f", revision `{source['revision']}`" if source["revision"] else ""
    lines = [
        title,
        f"Text-to-speech with voice cloning, converted from {origin}{revision} to "
        "[MLX](https://github.com/ml-explore/mlx) with `mlx_audio_turbo.convert`.",
    ]
    if not source["trained"]:
        lines.insert(1, UNTRAINED)
    for network, reason in config.get("missing", {}).items():
        lines.append(f"This folder **cannot make voices**: it has no `{network}`, {reason}.")
    lines += [f"Note: {note}." for note in config.get("notes", ())]
    return "\n\n".join(lines)


def precision(config: Mapping[str, Any]) -> str:
    """In words: ``float16`` or ``4-bit``."""
    quantization = config.get("quantization")
    return f"{quantization['bits']}-bit" if quantization else str(config["dtype"])


def _use(folder: Path, config: Mapping[str, Any]) -> str:
    example = EXAMPLES.get(str(config["model_type"]), EXAMPLES[TURBO_TYPE])
    code = f"""\
## Use

```sh
pip install mlx-audio-turbo
mlx_audio_turbo.tts --model FOLDER {{voice}}{example.flags} \\
  --text "{example.text}" --output hello.wav
```

```python
from mlx_audio_turbo import {example.model}{{imports}}

model = {example.model}.from_pretrained("FOLDER")  # this folder, or its name on the Hub
voice = {{make}}
model.generate("{example.text}", voice=voice{example.options}).save("hello.wav")
```

"""
    if config.get("missing"):
        return code.format(
            voice="--voice anna.safetensors",
            imports=", Voice",
            make='Voice.load("anna.safetensors")',
        ) + (
            "A voice is made of a **reference clip** by a folder that has all networks: "
            '`model.encode_voice("reference.wav").save("anna.safetensors")`. None is built in.'
        )
    least = config.get("reference_clip", {}).get("min_seconds") or 0
    clip = (
        f"A voice comes from a **reference clip**: {f'more than {least:g} seconds, ' * (least > 0)}"
        "best 10 to 15 seconds, of one person who speaks clearly."
    )
    if not (folder / builtin_voice.TARGET).is_file():
        clip += " None is built in, so without one there is no speech."
    return (
        code.format(
            voice="--ref_audio reference.wav",
            imports="",
            make='model.encode_voice("reference.wav")',
        )
        + clip
    )


def _contents(folder: Path, config: Mapping[str, Any], errors: Mapping[str, float]) -> str:
    reader = Reader(folder / "model.safetensors")
    sizes: defaultdict[str, int] = defaultdict(int)
    counts: defaultdict[str, int] = defaultdict(int)
    for name, tensor in reader.tensors.items():
        part = next(part for part in PARTS if name.startswith(f"{part}."))
        sizes[part] += tensor.bytes
        counts[part] += 1
    rows = ["| part | tensors | MB |", "|---|---:|---:|"]
    rows += [
        f"| {text} (`{part}`) | {counts[part]} | {sizes[part] / 1e6:,.1f} |"
        for part, text in PARTS.items()
        if counts[part]
    ]
    whole = (folder / "model.safetensors").stat().st_size
    rows.append(f"| `model.safetensors` | {len(reader.tensors)} | {whole / 1e6:,.1f} |")
    text = "## What is in it\n\n" + "\n".join(rows)
    quantization = config.get("quantization")
    if not quantization:
        return f"{text}\n\n{_floats(config)}"
    text += (
        f"\n\nThe linear layers of T3's blocks have {quantization['bits']}-bit weights in groups "
        f"of {quantization['group_size']}; embeddings, heads, speaker networks, flow and vocoder "
        f"are not quantised. {_floats(config)}"
    )
    if errors:
        values = np.array(list(errors.values()))
        text += (
            f" Measured over the {len(errors)} quantised layers, |quantised - original| / "
            f"|original| is {values.mean():.2%} in the mean and {values.max():.2%} at most."
        )
    return f"{text} On a CPU without the extra `cpu` they are expanded on loading."


def _floats(config: Mapping[str, Any]) -> str:
    if config["dtype"] == "float32":
        return "All floats are float32."
    matrices = "are float16"
    if config["dtype"] == "bfloat16":
        matrices = "of T3 are bfloat16, those of other networks float16"
    return f"Matrices and tables {matrices}; biases, gains of norms and Snake's alphas are float32."


def _responsibility(folder: Path) -> str:
    lines = [
        "## Consent, watermark, licence",
        "A voice belongs to a person. Clone only voices whose owners agreed, and say of the result "
        "that it was generated. The original program marks what it makes with Resemble AI's Perth "
        "watermark; here `--watermark` does.",
        "Weights and code are under the MIT licence; the model is Resemble AI's.",
    ]
    if (folder / builtin_voice.TARGET).is_file():
        lines.insert(
            2, f"**`{builtin_voice.TARGET}` holds a built-in voice.** {builtin_voice.WARNING}"
        )
    return "\n\n".join(lines)
