"""mlx-audio's Chatterbox Turbo as a peer: its own loops over its own modules, float32 weights.

As installed, its matrix products are those of MLX's wheel. ``--blas`` gives them the library that
ours run with, bound by the same module (``mlx_audio_turbo/ops/blas``) but with nothing of ours
between MLX and the library.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
import types
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from safetensors import safe_open

from . import worker

STOP = 6562
LIBRARY = Path(__file__).parents[3] / "mlx_audio_turbo"

# The port's names, made upstream's: pattern and replacement, applied in turn.
RENAMES = [
    (r"^t3\.", ""),
    (r"^s3gen\.(mel2wav|speaker_encoder)\.", r"\1."),
    (r"^s3gen\.", "flow."),
    (r"(embed)\.linear\.", r"\1.out.0."),
    (r"(embed)\.norm\.", r"\1.out.1."),
    (r"((?:down|mid|up)_blocks\.\d+)\.resnet\.", r"\1.0."),
    (r"((?:down|mid|up)_blocks\.\d+)\.transformer_blocks\.", r"\1.1."),
    (r"((?:down|mid|up)_blocks\.\d+)\.(?:down|up)sample\.", r"\1.2."),
    (r"\.mlp\.0\.(weight|bias)$", r".mlp.1.\1"),
    (r"\.block\.1\.", ".block.2."),
    (r"\.ff\.net\.1\.", ".ff.net.2."),
    (r"condnet\.(\d)\.", lambda found: f"condnet.{2 * int(found[1])}."),
    # A convolution inside a wrapper; the look-ahead and upsampling ones have none.
    (r"(?<!up_layer)\.conv(?:\.conv)?\.(weight|bias)$", r".\1"),
]
COMPUTED = r"pos_enc\.pe$|stft_window$|trim_fade$"
UNUSED = r"speaker_encoder\."
"""No part of an utterance once the voice is there."""


def upstream_name(name: str) -> str:
    """What the checkpoint calls a parameter of the port."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


class Checkpoint:
    """The tensors of the upstream files, by name."""

    def __init__(self, folder: Path):
        self._files = {}
        paths = [*folder.glob("t3_*.safetensors"), folder / "s3gen_meanflow.safetensors"]
        for path in paths:
            file = safe_open(path, "np")
            self._files |= dict.fromkeys(file.keys(), file)

    def tensor(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The parameter ``name`` of the port, moved into its ``shape``."""
        source = upstream_name(name)
        if source in self._files:
            value = self._read(source)
        else:  # weight norm: direction times gain
            base = f"{source.removesuffix('.weight')}.parametrizations.weight.original"
            gain, direction = self._read(f"{base}0"), self._read(f"{base}1")
            value = direction * (gain / np.linalg.norm(direction, axis=(1, 2), keepdims=True))
        if re.search(r"\.(c_attn|c_proj|c_fc)\.weight$", name):
            value = value.T
        elif value.ndim == 3:
            value = value.transpose((1, 2, 0) if ".ups." in name else (0, 2, 1))
        if value.shape != shape:
            raise ValueError(f"{name} is {shape}, {source} gives {value.shape}")
        return np.ascontiguousarray(value)

    def _read(self, name: str) -> np.ndarray:
        return self._files[name].get_tensor(name)


def weights(model: Any, folder: Path, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every parameter of ``model`` that the checkpoint holds."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    checkpoint = Checkpoint(folder)
    for name, array in tree_flatten(model.parameters()):
        if not re.search(COMPUTED, name) and not re.match(UNUSED, name):
            assert isinstance(array, mx.array)
            yield name, mx.array(checkpoint.tensor(f"{prefix}.{name}", tuple(array.shape)))


class Port:
    """T3 and S3Gen of mlx-audio with the checkpoint's weights."""

    def __init__(self, checkpoint: Path, inputs: worker.Inputs, blas: str):
        import mlx.core as mx
        from mlx_audio.tts.models.chatterbox_turbo.models.s3gen import S3Gen
        from mlx_audio.tts.models.chatterbox_turbo.models.t3 import T3, T3Config

        self._inputs, self._blas, self._mx = inputs, blas, mx
        self._t3, self._s3gen = T3(T3Config.turbo()), S3Gen(meanflow=True)
        for model, prefix in ((self._t3, "t3"), (self._s3gen, "s3gen")):
            # Not strict: its tables and windows are parameters there, and are computed.
            model.load_weights(list(weights(model, checkpoint, prefix)), strict=False)
            model.eval()
        bias = self._t3.speech_head.bias
        self._t3.speech_head.bias = mx.where(mx.arange(bias.size) == STOP, -mx.inf, bias)
        used = {k: v for k, v in self._s3gen.parameters().items() if k != "speaker_encoder"}
        mx.eval(self._t3.parameters(), used)

    def versions(self) -> dict[str, str]:
        packages = ("mlx-audio", "mlx")
        return {name: metadata.version(name) for name in packages} | {"blas": self._blas}

    def tokens(self, count: int, prompt: int) -> list[float]:
        from mlx_audio.tts.models.chatterbox_turbo.models.t3 import T3Cond
        from mlx_audio.tts.models.chatterbox_turbo.models.t3 import t3 as module

        mx, given = self._mx, self._inputs
        condition = T3Cond(
            speaker_emb=mx.array(given.speaker_embedding)[None],
            cond_prompt_speech_tokens=mx.array(given.t3_prompt_tokens[:prompt])[None],
        )
        stamps = worker.Stamps()
        sample = stamps.after(type(self._t3)._sample_token, mx.eval)
        with (
            mock.patch.object(type(self._t3), "_sample_token", sample),
            mock.patch.object(module, "tqdm", lambda steps, **_: steps),
        ):
            # One token comes before the loop that this limits.
            self._t3.inference_turbo(
                condition, mx.array(given.text_ids)[None], max_gen_len=count - 1
            )
        mx.clear_cache()
        return stamps.times

    def audio(self, tokens: int, prompt: int) -> tuple[float, float]:
        mx, given = self._mx, self._inputs
        voice = {
            "prompt_token": mx.array(given.prompt_tokens[:prompt])[None],
            "prompt_token_len": mx.array([prompt]),
            "prompt_feat": mx.array(given.prompt_mel[: 2 * prompt])[None],
            "prompt_feat_len": mx.array([2 * prompt]),
            "embedding": mx.array(given.x_vector)[None],
        }
        spoken = mx.array(given.tokens[:tokens])[None]
        started = time.perf_counter()
        mel = self._s3gen(spoken, ref_dict=voice, n_cfm_timesteps=2)
        mx.eval(mel)
        between = time.perf_counter()
        audio, _ = self._s3gen.mel2wav.inference(mel.transpose(0, 2, 1), None)
        mx.eval(audio)
        seconds = between - started, time.perf_counter() - between
        # Its source transform is not centred, which costs it some samples at the end.
        assert 0 <= 960 * tokens - audio.shape[1] <= 960, audio.shape
        mx.clear_cache()
        return seconds


def bind(library: str) -> str:
    """Give MLX the BLAS ``library``; returns its description."""
    os.environ["MLX_AUDIO_TURBO_BLAS"] = library
    package = types.ModuleType("ours")  # the module alone, without its own package's imports
    package.__path__ = [str(LIBRARY / "ops")]
    sys.modules["ours"] = package
    module = importlib.import_module("ours.blas")
    if module.warning():
        raise SystemExit(module.warning())
    return module.active()


def main() -> None:
    parser = worker.parser(__doc__)
    parser.add_argument("--blas", metavar="LIBRARY", help="the BLAS that ours run with")
    args = parser.parse_args()
    with worker.quiet_output() as answers:
        blas = bind(args.blas) if args.blas else "MLX's bundled"
        worker.serve(Port(args.checkpoint, worker.inputs(args.workload), blas), answers)


if __name__ == "__main__":
    main()
