"""T3: hidden states and logits of a forced sequence, greedy tokens, filtered distributions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from chatterbox.models.t3 import llama_configs
from chatterbox.models.t3.modules.cond_enc import T3Cond
from chatterbox.models.t3.modules.t3_config import T3Config
from chatterbox.models.t3.t3 import T3
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .. import seeded
from ..inputs_t3 import SETTINGS, logit_cases, nano_sizes, sequence, thin
from .context import Context


def build(sizes: dict[str, Any], weights: dict[str, torch.Tensor]) -> T3:
    """The reference's T3 at any size; ``weights`` may leave out what inference never reads."""
    llama_configs.LLAMA_CONFIGS["parity"] = dict(
        llama_configs.GPT2_MEDIUM_CONFIG,
        n_embd=sizes["width"],
        hidden_size=sizes["width"],
        n_layer=sizes["layers"],
        n_head=sizes["heads"],
        n_positions=sizes["positions"],
        n_ctx=sizes["positions"],
        vocab_size=1,
    )
    hp = T3Config(text_tokens_dict_size=sizes["text_vocabulary"])
    hp.llama_config_name = "parity"
    hp.speech_tokens_dict_size = sizes["speech_vocabulary"]
    hp.speaker_embed_size = sizes["speaker_embedding"]
    hp.speech_cond_prompt_len = sizes["prompt_tokens"]
    hp.input_pos_emb = None
    hp.use_perceiver_resampler = False
    hp.emotion_adv = False
    with torch.device("meta"):
        model = T3(hp)
    unread = {"text_head.weight": model.text_head, "tfmr.wte.weight": model.tfmr.wte}
    kept = {name: value for name, value in weights.items() if name not in unread}
    for module in unread.values():
        module.weight = torch.nn.Parameter(torch.empty(0), requires_grad=False)
    loaded = model.load_state_dict(kept, strict=False, assign=True)
    assert set(loaded.missing_keys) <= set(unread) and not loaded.unexpected_keys, loaded
    return model.eval()


def decode(model: T3, sizes: dict[str, Any], *, small: bool) -> Iterator[tuple[str, np.ndarray]]:
    """One prefill, the forced steps with the cache, and the reference's own greedy loop."""
    inputs = sequence(sizes, small=small)
    condition = T3Cond(
        speaker_emb=torch.from_numpy(inputs.speaker)[None],
        cond_prompt_speech_tokens=torch.from_numpy(inputs.prompt)[None],
        emotion_adv=None,
    )
    text = torch.from_numpy(inputs.text)[None]
    start = torch.full((1, 1), model.hp.start_speech_token)
    embeddings, _ = model.prepare_input_embeds(
        t3_cond=condition, text_tokens=text, speech_tokens=start
    )
    out = model.tfmr(inputs_embeds=embeddings, use_cache=True)
    yield "hidden", thin(out[0][0].numpy(), small=small)
    logits = [model.speech_head(out[0][0, -1])]
    for token in torch.from_numpy(inputs.forced):
        out = model.tfmr(
            inputs_embeds=model.speech_emb(token.view(1, 1)),
            past_key_values=out.past_key_values,
            use_cache=True,
        )
        logits.append(model.speech_head(out[0][0, -1]))
    stacked = torch.stack(logits).numpy()
    yield "spread", np.array(stacked.std(axis=1).mean())
    yield "likeliest", stacked.argmax(axis=1)
    yield "logits", thin(stacked, small=small)

    bias = model.speech_head.bias
    kept = bias[model.hp.stop_speech_token].clone()
    bias[model.hp.stop_speech_token] = -float("inf")
    greedy = model.inference_turbo(condition, text, top_k=1, max_gen_len=inputs.greedy - 1)
    bias[model.hp.stop_speech_token] = kept
    yield "greedy", greedy[0].numpy()


def distributions(vocabulary: int, *, small: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Kept sets (packed bits) and the probabilities of what is kept, for every setting.

    The last softmax is taken in float64: torch's own in float32 strays from it by 1e-6 where no
    filter has thinned out the sum, which is noted beside.
    """
    for number, setting in enumerate(SETTINGS):
        processors = LogitsProcessorList()
        if setting.temperature not in (0, 1):
            processors.append(TemperatureLogitsWarper(setting.temperature))
        if setting.top_k > 0:
            processors.append(TopKLogitsWarper(setting.top_k))
        if setting.top_p < 1:
            processors.append(TopPLogitsWarper(setting.top_p))
        if setting.penalty != 1:
            processors.append(RepetitionPenaltyLogitsProcessor(setting.penalty))
        kept, probabilities, rounding = [], [], 0.0
        for logits, history in logit_cases(vocabulary, number, small=small):
            scores = processors(torch.from_numpy(history)[None], torch.from_numpy(logits)[None])
            kept.append(torch.isfinite(scores[0]).numpy())
            exact = torch.softmax(scores.double(), dim=-1)[0].float().numpy()
            probabilities.append(exact[kept[-1]])
            rounding = max(
                rounding, float(np.abs(torch.softmax(scores, dim=-1)[0].numpy() - exact).max())
            )
        yield f"kept{number}", np.packbits(np.stack(kept), axis=1)
        yield f"probabilities{number}", np.concatenate(probabilities)
        yield f"rounding{number}", np.array(rounding)


def record(context: Context) -> dict[str, np.ndarray]:
    """See the module; Nano's weights are generated here."""
    sizes = context.architecture["t3"]
    arrays: dict[str, np.ndarray] = {}
    model = build(sizes, context.weights(context.t3_file))
    arrays |= {f"turbo.{k}": v for k, v in decode(model, sizes, small=context.small)}
    del model
    if context.own:
        return arrays
    nano = nano_sizes(small=context.small)
    weights = {k: torch.from_numpy(v) for k, v in seeded.t3_weights(nano, seed=2).items()}
    model = build(nano, weights)
    arrays |= {f"nano.{k}": v for k, v in decode(model, nano, small=context.small)}
    arrays |= dict(distributions(sizes["speech_vocabulary"], small=context.small))
    return arrays
