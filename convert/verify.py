"""Whether a model folder is what its checkpoint makes: every file, number and tensor.

Each check reports what it found and the faults, which name the tensor. No check stops at the first
fault; a check that depends on a part found broken is left out.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

import mlx_audio_turbo
from mlx_audio_turbo.config import Quantization, from_dict, from_json, to_json
from mlx_audio_turbo.errors import ModelFolderError, TurboError
from mlx_audio_turbo.options import RUN_OPTIONS
from mlx_audio_turbo.presets import MULTILINGUAL_TYPE, PUBLISHED, TURBO

from . import builtin_voice, card, quantize, tokenizer
from . import folder as folders
from .precision import STORED, cast
from .safetensors_writer import Reader, Tensor
from .source import Source
from .source_tensors import SourceTensors, is_finite
from .synthetic import voice as made_up

SENTENCES = (
    "Oh, that's hilarious! [chuckle] Um anyway, we do have a new model in store.",
    "[clear throat] Dr. O'Neill paid $3.50 for 2 café au laits… naïve?",
)
ROUNDING = {"F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8}
"""Half a unit in the last place, against the value."""
_SMALLEST_STEP = {"F32": 0.0, "F16": 2.0**-25, "BF16": 0.0}
_FOLD = 2.0**-22
"""What a sum may differ between machines, against the largest value of the tensor."""


@dataclass
class Check:
    """One part of the report; it holds where there are no faults."""

    name: str
    detail: str = ""
    faults: list[str] = field(default_factory=list)


def verify(folder: Path, source: Source) -> Iterator[Check]:
    """Compare ``folder`` with ``source`` and try it out; yields each check when it is done."""
    check, config = _config(folder, source)
    yield check
    yield _tokenizer(folder, source)
    if (folder / builtin_voice.TARGET).exists():
        yield _voice(folder, source)
    if config is None:
        return
    stored = STORED[str(config["dtype"])]
    quantization = _quantization(config)
    missing: Mapping[str, str] = config.get("missing", {})
    try:
        tensors = SourceTensors(source, missing=missing)
        targets = quantize.targets(
            source.config, stored, missing=missing, quantization=quantization
        )
        reader = Reader(folder / "model.safetensors", remedy="convert it again")
    except TurboError as error:
        yield Check("header", faults=[str(error)])
        return
    check, good = _header(reader, targets, stored)
    yield check
    yield _tensors(reader, tensors, good, stored, quantization)
    yield _sizes(folder)
    yield _speech(folder, config)


def origin(folder: Path, source: str | None) -> tuple[str, str | None, str | None]:
    """The checkpoint of ``folder``: its place, revision and variant.

    Args:
        source: a place in place of the one that the folder names.

    Raises:
        ModelFolderError: neither names one.
    """
    named: dict[str, Any] = {}
    variant = None
    try:
        values = json.loads((folder / "config.json").read_text("utf-8"))
        named, variant = dict(values["source"]), str(values["variant"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if source:
        return source, None, variant
    repository = named.get("repository")
    if not isinstance(repository, str) or repository not in PUBLISHED.values():
        raise ModelFolderError(
            f"{folder} does not say of which published checkpoint it was made; give it with "
            "--source"
        )
    return repository, named.get("revision"), variant


def _config(folder: Path, source: Source) -> tuple[Check, dict[str, Any] | None]:
    check = Check("config.json")
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        found, wanted = to_json(from_json(config, absent=TURBO)), to_json(source.config)
        check.faults += _differences(found, wanted, "")
        expected: dict[str, Any] = {
            "model_type": source.model_type,
            "version": folders.VERSION,
            "variant": source.variant,
            "family": source.family,
        }
        check.faults += _differences({key: config.get(key) for key in expected}, expected, "")
        if config.get("dtype") not in STORED:
            check.faults.append(f"dtype is {config.get('dtype')!r}")
            return check, None
        trained = config["source"]["trained"]
        check.faults += _differences({"trained": trained}, {"trained": source.trained}, "source")
        _quantization(config)
    except TurboError as error:
        check.faults.append(str(error))
        return check, None
    except (OSError, ValueError, KeyError, TypeError) as error:
        check.faults.append(f"cannot be read: {type(error).__name__}: {error}")
        return check, None
    check.detail = f"{config['variant']}, {config['dtype']}"
    if config.get("quantization"):
        check.detail += f", T3's blocks in {config['quantization']['bits']} bits"
    return check, config


def _quantization(config: Mapping[str, Any]) -> Quantization | None:
    values = config.get("quantization")
    return from_dict(Quantization, values, where="quantization") if values else None


def _differences(found: Any, wanted: Any, where: str) -> list[str]:
    if isinstance(wanted, dict):
        return [
            fault
            for key in wanted
            for fault in _differences(
                found.get(key), wanted[key], f"{where}.{key}" if where else key
            )
        ]
    return [] if found == wanted else [f"{where} is {found!r}, the source has {wanted!r}"]


def _tokenizer(folder: Path, source: Source) -> Check:
    """Compare with the tokenizer files that conversion makes of the source."""
    check = Check("tokenizer")
    try:
        text = (folder / tokenizer.TOKENIZER_FILE).read_text("utf-8")
        json.loads(text)["model"]["vocab"]
        found = Tokenizer.from_str(text)
    except (OSError, ValueError, KeyError, TypeError) as error:
        check.faults.append(f"tokenizer.json cannot be read: {type(error).__name__}: {error}")
        return check
    with tempfile.TemporaryDirectory() as place:
        made = Path(place)
        try:
            tokenizer.write_tokenizer(
                source.folder,
                made,
                source.config.t3,
                multilingual=source.model_type == MULTILINGUAL_TYPE,
            )
        except (TurboError, OSError) as error:
            check.faults.append(str(error))
            return check
        wanted = Tokenizer.from_file(str(made / tokenizer.TOKENIZER_FILE))
        for path in sorted(made.iterdir()):
            if not _same_file(folder / path.name, path):
                check.faults.append(f"{path.name} is not what the source's files make")
    tags = [token.content for token in wanted.get_added_tokens_decoder().values()]
    for sentence in (*tags, *SENTENCES):
        ids, right = (
            which.encode(sentence, add_special_tokens=False).ids for which in (found, wanted)
        )
        if ids != right:
            check.faults.append(f"{sentence!r} gives {ids[:8]}, not {right[:8]}")
    check.detail = f"{found.get_vocab_size()} ids, all {len(tags)} tags"
    return check


def _same_file(path: Path, other: Path) -> bool:
    """Whether two files hold the same; JSON may be written in another way."""
    if not path.is_file():
        return False
    if path.read_bytes() == other.read_bytes():
        return True
    try:
        one, two = (json.loads(each.read_text("utf-8")) for each in (path, other))
    except ValueError:
        return False
    return path.suffix == ".json" and one == two


def _header(reader: Reader, targets: Mapping[str, Tensor], stored: str) -> tuple[Check, set[str]]:
    """Also gives the tensors that are as they should be: older folders have all as ``stored``."""
    check = Check("header", f"{len(reader.tensors)} tensors")
    good = set()
    for name in sorted({*reader.tensors, *targets}):
        found, wanted = reader.tensors.get(name), targets.get(name)
        if found is None:
            check.faults.append(f"{name} is missing")
        elif wanted is None:
            check.faults.append(f"{name or repr(name)} does not belong here")
        elif found.shape != wanted.shape or found.dtype not in (wanted.dtype, stored):
            check.faults.append(
                f"{name} is {found.dtype} {found.shape}, not {wanted.dtype} {wanted.shape}"
            )
        else:
            good.add(name)
    return check, good


def _tensors(
    reader: Reader,
    tensors: SourceTensors,
    good: set[str],
    stored: str,
    quantization: Quantization | None,
) -> Check:
    check = Check("tensors")
    exact, worst, errors = 0, 0.0, []
    try:
        for name, original in tensors:
            layer = name.removesuffix(".weight")
            if f"{layer}.scales" in reader.tensors and quantization:
                names = [f"{layer}.{part}" for part in quantize.PARTS]
                if good.issuperset(names):
                    parts = [reader.read(part) for part in names]
                    fault, error = _compare_codes(original, parts, stored, quantization)
                    errors.append(error)
                    check.faults += [f"{name} {fault}"] if fault else []
                continue
            if name not in good:
                continue
            kind = reader.tensors[name].dtype
            fault, off = _compare(original, reader.read(name), kind, name in tensors.folded)
            check.faults += [f"{name} {fault}"] if fault else []
            exact += off == 0
            worst = max(worst, off)
    except TurboError as error:
        check.faults.append(f"the source: {error}")
    check.detail = f"{exact} exact, the others rounded by {worst:.2g} of the value at most"
    if errors:
        check.detail += (
            f"; {len(errors)} quantised layers off by {np.mean(errors):.2%} in the mean and "
            f"{max(errors):.2%} at most"
        )
    return check


def _compare(
    original: np.ndarray, found: np.ndarray, stored: str, folded: bool
) -> tuple[str, float]:
    """What is wrong, or nothing, and the largest rounding against the value."""
    found = found.astype(np.float32)
    if not is_finite(found):
        return "has values that are not finite", np.inf
    original = original.astype(np.float32)
    off, size = np.abs(found - original), np.abs(original)
    bound = np.maximum(size * ROUNDING[stored], _SMALLEST_STEP[stored])
    if folded:
        bound += _FOLD * float(size.max(initial=0))
    wrong = int(np.count_nonzero(off > bound))
    if wrong:
        return f"differs from the source in {wrong} of {off.size} values", np.inf
    normal = size > 2.0**-14
    return "", float(np.max(off[normal] / size[normal], initial=0))


def _compare_codes(
    original: np.ndarray, parts: list[np.ndarray], stored: str, quantization: Quantization
) -> tuple[str, float]:
    """What is wrong, or nothing, and |quantised - original| / |original|."""
    if not all(is_finite(part) for part in parts[1:]):
        return "has scales or biases that are not finite", np.inf
    found = quantize.dequantize(parts, quantization)
    error = float(np.linalg.norm(found - original) / max(np.linalg.norm(original), 1e-30))
    plain = cast(original, stored, name="")
    best = quantize.quantize(plain, quantization, stored)
    limit = 1.01 * quantize.relative_error(original, best, quantization) + 1e-6
    if error > limit:
        return f"is off by {error:.2%} where {quantization.bits} bits allow {limit:.2%}", error
    # A code may fall on the other side of a tie on another machine, and no further.
    steps = np.repeat(np.abs(parts[1].astype(np.float32)), quantization.group_size, axis=1)
    wrong = int(np.count_nonzero(np.abs(found - original) > 1.6 * steps + 1e-6))
    return (f"is off by more than a step in {wrong} values" if wrong else ""), error


def _voice(folder: Path, source: Source) -> Check:
    """The built-in voice, where the folder has one."""
    check = Check("voice")
    try:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / builtin_voice.TARGET
            builtin_voice.convert_voice(source.folder / builtin_voice.SOURCE, path)
            found, wanted = Reader(folder / builtin_voice.TARGET), Reader(path)
            for name in sorted({*found.tensors, *wanted.tensors}):
                if found.tensors.get(name) != wanted.tensors.get(name):
                    check.faults.append(f"{name} is {found.tensors.get(name)}")
                elif not np.array_equal(found.read(name), wanted.read(name)):
                    check.faults.append(f"{name} is not the source's")
    except TurboError as error:
        check.faults.append(str(error))
    check.detail = "a person's, of unknown origin"
    return check


def _sizes(folder: Path) -> Check:
    whole, part = card.weight_bytes(folder)
    return Check("size", f"{whole / 1e6:,.1f} MB, {part / 1e6:,.1f} without s3tokenizer")


def _model_class(model_type: str) -> Any:
    """The public class of a folder's model."""
    classes = (getattr(mlx_audio_turbo, name, None) for name in RUN_OPTIONS)
    found = [each for each in classes if each and model_type == each.MODEL_TYPE]
    if not found:
        raise ModelFolderError(f"no model is of the type {model_type!r}; convert it again")
    return found[0]


def _speech(folder: Path, config: Mapping[str, Any]) -> Check:
    """Load the folder strictly and speak a word."""
    check = Check("speech")
    try:
        model = _model_class(str(config["model_type"])).from_pretrained(folder)
        if config.get("missing"):
            voice = made_up.voice(model.config, family=config["family"])
        else:
            voice = model.encode_voice(made_up.clip(), sample_rate=24_000)
        speech = model.generate("Hello there.", voice=voice, seed=0, max_tokens=25)
    except TurboError as error:
        check.faults.append(str(error))
        return check
    if not is_finite(speech.audio) or float(np.std(speech.audio)) < 1e-5:
        check.faults.append("a word gives silence, or samples that are not finite")
    check.detail = f"{len(speech.tokens)} tokens, {speech.duration:.2f} s"
    return check
