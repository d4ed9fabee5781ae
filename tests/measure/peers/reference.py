"""The PyTorch reference as a peer: its own loops over its own modules, in float32 on the CPU.

The checkpoint says which model it is: Turbo (and Nano), or the original.
"""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import numpy as np
import torch
from chatterbox.models.s3gen import flow_matching
from chatterbox.models.t3 import t3 as t3_module
from chatterbox.models.t3.modules.cond_enc import T3Cond

from tests.measure.parity.reference import hift, s3gen, t3, t3_original
from tests.measure.parity.reference.context import Context

from . import worker

STOP = 6562


class Turbo:
    """T3 and the flow of Turbo."""

    def __init__(self, context: Context):
        self.t3 = t3.build(context.architecture["t3"], context.weights(context.t3_file))
        self.t3.speech_head.bias.data[STOP] = -torch.inf
        self.flow = s3gen.build(context)

    emotion = None

    def speak(self, condition: T3Cond, text: torch.Tensor, count: int) -> None:
        """Draw ``count`` tokens."""
        # One token comes before the loop that this limits.
        self.t3.inference_turbo(condition, text[None], max_gen_len=count - 1)

    def solver(self, tokens: int, mels: int) -> dict[str, Any]:
        """Arguments of the flow for so many tokens."""
        noise = torch.randn(1, mels, 2 * tokens)
        return {"n_timesteps": 2, "noised_mels": noise, "meanflow": True}


def _never_stops(head: torch.nn.Module, args: object, logits: torch.Tensor) -> torch.Tensor:
    logits[..., STOP] = -1e4  # infinities of both rows have no difference
    return logits


class Original:
    """T3 with guidance, and the flow of ten steps with guidance."""

    def __init__(self, context: Context):
        sizes = context.architecture["t3"]
        # The package's own form, in which transformers computes no attention weights.
        self.t3 = t3_original.build(sizes, context.weights(context.t3_file), attention="sdpa")
        self.t3.speech_head.register_forward_hook(_never_stops)
        self.flow = s3gen.build(context, meanflow=False)

    emotion = 0.5 * torch.ones(1, 1, 1)

    def speak(self, condition: T3Cond, text: torch.Tensor, count: int) -> None:
        """Draw ``count`` tokens, with the package's default options."""
        ids = torch.cat([torch.tensor([255]), text, torch.tensor([0])])
        self.t3.inference(
            t3_cond=condition,
            text_tokens=torch.stack([ids, ids]),
            max_new_tokens=count,
            temperature=0.8,
            min_p=0.05,
            top_p=1.0,
            repetition_penalty=1.2,
            cfg_weight=0.5,
        )

    def solver(self, tokens: int, mels: int) -> dict[str, Any]:
        """Arguments of the flow for so many tokens."""
        return {"n_timesteps": 10}


class Reference:
    """T3, flow and vocoder with the checkpoint's weights; the encoders are left out."""

    def __init__(self, context: Context, inputs: worker.Inputs):
        self._inputs = inputs
        kind = context.architecture["t3"].get("kind")
        self._model = Original(context) if kind == "original" else Turbo(context)
        self._vocoder = hift.build(context)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "threads": str(torch.get_num_threads())}

    def tokens(self, count: int, prompt: int) -> list[float]:
        given = self._inputs
        condition = T3Cond(
            speaker_emb=torch.from_numpy(given.speaker_embedding)[None],
            cond_prompt_speech_tokens=torch.from_numpy(given.t3_prompt_tokens[:prompt])[None],
            emotion_adv=self._model.emotion,
        )
        stamps = worker.Stamps()
        with (
            mock.patch.object(torch, "multinomial", stamps.after(torch.multinomial)),
            mock.patch.object(t3_module, "tqdm", lambda steps, **_: steps),
        ):
            self._model.speak(condition, torch.from_numpy(given.text_ids).long(), count)
        return stamps.times

    def audio(self, tokens: int, prompt: int) -> tuple[float, float]:
        given = self._inputs
        spoken = torch.from_numpy(given.tokens[:tokens])[None].long()
        with (
            torch.inference_mode(),
            mock.patch.object(flow_matching, "tqdm", lambda steps, **_: steps),
        ):
            started = time.perf_counter()
            mel, _ = self._model.flow.inference(
                token=spoken,
                token_len=torch.tensor([tokens]),
                prompt_token=_row(given.prompt_tokens[:prompt]).long(),
                prompt_token_len=torch.tensor([prompt]),
                prompt_feat=_row(given.prompt_mel[: 2 * prompt]),
                prompt_feat_len=None,
                embedding=_row(given.x_vector),
                finalize=True,
                **self._model.solver(tokens, given.prompt_mel.shape[1]),
            )
            between = time.perf_counter()
            audio, _ = self._vocoder.inference(mel, torch.zeros(1, 1, 0))
            assert audio.shape[-1] == 960 * tokens
            return between - started, time.perf_counter() - between


def _row(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None]


def main() -> None:
    parser = worker.parser(__doc__)
    args = parser.parse_args()
    with worker.quiet_output() as answers:
        context = Context(args.checkpoint, [])
        worker.serve(Reference(context, worker.inputs(args.workload)), answers)


if __name__ == "__main__":
    main()
