"""The original's T3: conditioning, hidden states, guided logits, greedy tokens, distributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from chatterbox.models.t3 import llama_configs
from chatterbox.models.t3.modules.cond_enc import T3Cond
from chatterbox.models.t3.modules.perceiver import Perceiver
from chatterbox.models.t3.modules.t3_config import T3Config
from chatterbox.models.t3.t3 import T3
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopPLogitsWarper,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from .. import seeded
from ..inputs_t3 import (
    EXAGGERATION,
    GUIDANCE,
    ORIGINAL_SETTINGS,
    START_SPEECH,
    Sequence,
    logit_cases,
    original_sequence,
    original_sizes,
    thin,
)
from .context import Context


def build(
    sizes: dict[str, Any],
    weights: Mapping[str, torch.Tensor] | None = None,
    *,
    attention: str = "eager",
) -> T3:
    """The reference's T3.

    Args:
        weights: of a checkpoint, all; by default seeded ones, and what inference never reads stays
            empty.
        attention: the form of its attention.
    """
    llama_configs.LLAMA_CONFIGS["parity"] = dict(
        llama_configs.LLAMA_CONFIGS["Llama_520M"],
        hidden_size=sizes["width"],
        intermediate_size=sizes["feed_forward"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["heads"],
        head_dim=sizes["width"] // sizes["heads"],
        attn_implementation=attention,
        torch_dtype="float32",
    )
    hp = T3Config(text_tokens_dict_size=sizes["text_vocabulary"])
    hp.llama_config_name = "parity"
    hp.max_text_tokens = sizes["text_positions"] - 2
    hp.max_speech_tokens = sizes["speech_positions"] - 4
    with torch.device("meta"):
        model = T3(hp)
        width = sizes["width"]
        model.cond_enc.perceiver = Perceiver(
            sizes["perceiver_queries"], width, width, sizes["perceiver_heads"]
        )
    model.tfmr.rotary_emb = LlamaRotaryEmbedding(config=model.cfg)
    if weights is not None:
        model.load_state_dict(weights, strict=True, assign=True)
        return model.eval()
    drawn = seeded.original_t3_weights(sizes, seed=3)
    tensors = {name: torch.from_numpy(x) for name, x in drawn.items()}
    loaded = model.load_state_dict(tensors, strict=False, assign=True)
    assert set(loaded.missing_keys) == {"text_head.weight", "tfmr.embed_tokens.weight"}, loaded
    assert not loaded.unexpected_keys, loaded
    return model.eval()


def condition(inputs: Sequence) -> T3Cond:
    return T3Cond(
        speaker_emb=torch.from_numpy(inputs.speaker)[None],
        cond_prompt_speech_tokens=torch.from_numpy(inputs.prompt)[None],
        emotion_adv=EXAGGERATION * torch.ones(1, 1, 1),
    )


def text_rows(model: T3, inputs: Sequence) -> torch.Tensor:
    """The text ids (2, T), with start and stop."""
    ids = [model.hp.start_text_token, *inputs.text, model.hp.stop_text_token]
    return torch.tensor([ids, ids])


def forced(model: T3, sizes: dict[str, Any], *, small: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Conditioning, and two rows of hidden states and logits of a forced sequence."""
    inputs = original_sequence(sizes, small=small)
    yield "conditioning", model.prepare_conditioning(condition(inputs))[0].numpy()
    start = model.hp.start_speech_token
    embeddings, _ = model.prepare_input_embeds(
        t3_cond=condition(inputs),
        text_tokens=text_rows(model, inputs),
        speech_tokens=torch.full((2, 1), start),
        cfg_weight=GUIDANCE,
    )
    again = model.speech_emb(torch.tensor([[start]])) + model.speech_pos_emb.get_fixed_embedding(0)
    tokens = torch.from_numpy(inputs.forced)[None]
    places = torch.arange(1, len(inputs.forced) + 1)
    speech = model.speech_emb(tokens) + model.speech_pos_emb.get_fixed_embedding(places)
    later = torch.cat([again, speech], dim=1).expand(2, -1, -1)
    hidden = model.tfmr(inputs_embeds=torch.cat([embeddings, later], dim=1))[0]
    kept = 12 if small else 200
    logits = model.speech_head(hidden[:, -kept:])
    yield "hidden", hidden[:, :: 1 if small else 8].numpy()
    guided = logits[0] + GUIDANCE * (logits[0] - logits[1])
    for name, values in (("conditional", logits[0]), ("unconditional", logits[1])):
        yield name, thin(values.numpy(), small=small)
    yield "guided", thin(guided.numpy(), small=small)
    yield "likeliest", guided.argmax(dim=-1).numpy()
    yield "spread", np.array(logits[0].std(dim=-1).mean())


def only_speech(head: torch.nn.Module, args: object, logits: torch.Tensor) -> torch.Tensor:
    """A hook of the head: without the stop token and the ids that are no speech."""
    logits = logits.clone()
    logits[..., START_SPEECH:] = -1e4
    return logits


def greedy(model: T3, sizes: dict[str, Any], *, small: bool) -> np.ndarray:
    """The reference's own loop, with a min-p that leaves one token."""
    inputs = original_sequence(sizes, small=small)
    hook = model.speech_head.register_forward_hook(only_speech)
    tokens = model.inference(
        t3_cond=condition(inputs),
        text_tokens=text_rows(model, inputs),
        max_new_tokens=inputs.greedy,
        temperature=0.8,
        min_p=1.0,
        top_p=1.0,
        repetition_penalty=1.2,
        cfg_weight=GUIDANCE,
    )
    hook.remove()
    return tokens[0].numpy()


def distributions(vocabulary: int, *, small: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Kept sets (packed bits) and the probabilities of what is kept, for every setting."""
    for number, setting in enumerate(ORIGINAL_SETTINGS):
        penalty = RepetitionPenaltyLogitsProcessor(setting.penalty)
        min_p, top_p = MinPLogitsWarper(setting.min_p), TopPLogitsWarper(setting.top_p)
        kept, probabilities = [], []
        for logits, history in logit_cases(vocabulary, number, small=small, cases=setting.cases):
            ids = torch.from_numpy(history)[None]
            scores = penalty(ids, torch.from_numpy(logits)[None]) / setting.temperature
            scores = top_p(ids, min_p(ids, scores))
            kept.append(torch.isfinite(scores[0]).numpy())
            exact = torch.softmax(scores.double(), dim=-1)[0].float().numpy()
            probabilities.append(exact[kept[-1]])
        yield f"kept{number}", np.packbits(np.stack(kept), axis=1)
        yield f"probabilities{number}", np.concatenate(probabilities)


def record(context: Context) -> dict[str, np.ndarray]:
    """See the module; the weights are generated here."""
    small = context.small
    sizes = original_sizes(small=small)
    model = build(sizes)
    arrays = {f"english.{k}": v for k, v in forced(model, sizes, small=small)}
    arrays["english.greedy"] = greedy(model, sizes, small=small)
    del model
    sizes = original_sizes(small=small, multilingual=True)
    model = build(sizes)
    arrays |= {f"multilingual.{k}": v for k, v in forced(model, sizes, small=small)}
    arrays |= dict(distributions(sizes["speech_vocabulary"], small=small))
    return arrays
