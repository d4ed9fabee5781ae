"""The PyTorch reference as a peer: its own loops over its own modules, in float32 on the CPU."""

from __future__ import annotations

import time
from unittest import mock

import torch
from chatterbox.models.s3gen import flow_matching
from chatterbox.models.t3 import t3 as t3_module
from chatterbox.models.t3.modules.cond_enc import T3Cond

from tests.measure.parity.reference import hift, s3gen, t3
from tests.measure.parity.reference.context import Context

from . import worker

STOP = 6562


class Reference:
    """T3, flow and vocoder with the checkpoint's weights; the encoders are left out."""

    def __init__(self, context: Context, inputs: worker.Inputs):
        self._inputs = inputs
        self._t3 = t3.build(context.architecture["t3"], context.weights(context.t3_file))
        self._t3.speech_head.bias.data[STOP] = -torch.inf
        self._flow = s3gen.build(context)
        self._vocoder = hift.build(context)

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__, "threads": str(torch.get_num_threads())}

    def tokens(self, count: int, prompt: int) -> list[float]:
        given = self._inputs
        condition = T3Cond(
            speaker_emb=torch.from_numpy(given.speaker_embedding)[None],
            cond_prompt_speech_tokens=torch.from_numpy(given.t3_prompt_tokens[:prompt])[None],
            emotion_adv=None,
        )
        stamps = worker.Stamps()
        with (
            mock.patch.object(torch, "multinomial", stamps.after(torch.multinomial)),
            mock.patch.object(t3_module, "tqdm", lambda steps: steps),
        ):
            # One token comes before the loop that this limits.
            self._t3.inference_turbo(
                condition, torch.from_numpy(given.text_ids)[None].long(), max_gen_len=count - 1
            )
        return stamps.times

    def audio(self, tokens: int, prompt: int) -> tuple[float, float]:
        given = self._inputs
        spoken = torch.from_numpy(given.tokens[:tokens])[None].long()
        with (
            torch.inference_mode(),
            mock.patch.object(flow_matching, "tqdm", lambda steps, **_: steps),
        ):
            started = time.perf_counter()
            mel, _ = self._flow.inference(
                token=spoken,
                token_len=torch.tensor([tokens]),
                prompt_token=torch.from_numpy(given.prompt_tokens[:prompt])[None].long(),
                prompt_token_len=torch.tensor([prompt]),
                prompt_feat=torch.from_numpy(given.prompt_mel[: 2 * prompt])[None],
                prompt_feat_len=None,
                embedding=torch.from_numpy(given.x_vector)[None],
                finalize=True,
                n_timesteps=2,
                noised_mels=torch.randn(1, given.prompt_mel.shape[1], 2 * tokens),
                meanflow=True,
            )
            between = time.perf_counter()
            audio, _ = self._vocoder.inference(mel, torch.zeros(1, 1, 0))
            assert audio.shape[-1] == 960 * tokens
            return between - started, time.perf_counter() - between


def main() -> None:
    parser = worker.parser(__doc__)
    args = parser.parse_args()
    with worker.quiet_output() as answers:
        context = Context(args.checkpoint, [])
        worker.serve(Reference(context, worker.inputs(args.workload)), answers)


if __name__ == "__main__":
    main()
