"""The reference's tokens to mel, with the noise handed in."""

from __future__ import annotations

from unittest import mock

import numpy as np
import torch
from chatterbox.models.s3gen import flow_matching
from chatterbox.models.s3gen.configs import CFM_PARAMS
from chatterbox.models.s3gen.decoder import ConditionalDecoder
from chatterbox.models.s3gen.flow import CausalMaskedDiffWithXvec
from chatterbox.models.s3gen.transformer.upsample_encoder import (
    PreLookaheadLayer,
    Upsample1D,
    UpsampleConformerEncoder,
)

from .context import Context

PREFIX = "flow."


MIXER = f"{PREFIX}decoder.estimator.time_embed_mixer."


def build(context: Context, *, meanflow: bool = True) -> CausalMaskedDiffWithXvec:
    """The reference's module in the checkpoint's sizes, with its weights.

    Without ``meanflow`` it is the original's: the same weights but for the mixer of the two times.
    """
    sizes = context.architecture["s3gen"]
    flow = CausalMaskedDiffWithXvec(
        input_size=sizes["encoder"]["width"],
        output_size=sizes["mels"],
        spk_embed_dim=sizes["speaker_embedding"],
        vocab_size=sizes["vocabulary"],
        pre_lookahead_len=sizes["encoder"]["lookahead"],
        encoder=_encoder(**sizes["encoder"]),
        decoder=flow_matching.CausalConditionalCFM(
            spk_emb_dim=sizes["mels"],
            cfm_params=CFM_PARAMS,
            estimator=_estimator(sizes["mels"], sizes["estimator"], meanflow=meanflow),
        ),
    )
    weights = {
        name[len(PREFIX) :]: value
        for name, value in context.weights(context.s3gen_file).items()
        if name.startswith(PREFIX) and (meanflow or not name.startswith(MIXER))
    }
    flow.load_state_dict(weights, strict=True)
    return flow.eval()


def _encoder(
    *, width: int, heads: int, feed_forward: int, blocks: int, up_blocks: int, lookahead: int
) -> UpsampleConformerEncoder:
    def stack(count: int) -> UpsampleConformerEncoder:
        return UpsampleConformerEncoder(
            input_size=width,
            output_size=width,
            attention_heads=heads,
            linear_units=feed_forward,
            num_blocks=count,
            input_layer="linear",
            pos_enc_layer_type="rel_pos_espnet",
            selfattention_layer_type="rel_selfattn",
            normalize_before=True,
            use_cnn_module=False,
            macaron_style=False,
        )

    encoder = stack(blocks)
    # These three are not arguments: always 512 wide, and four blocks after the upsampling.
    encoder.pre_lookahead_layer = PreLookaheadLayer(channels=width, pre_lookahead_len=lookahead)
    encoder.up_layer = Upsample1D(channels=width, out_channels=width, stride=2)
    encoder.up_encoders = stack(up_blocks).encoders
    return encoder


def _estimator(mels: int, sizes: dict[str, int], *, meanflow: bool) -> ConditionalDecoder:
    return ConditionalDecoder(
        in_channels=4 * mels,
        out_channels=mels,
        causal=True,
        channels=[sizes["channels"]],
        dropout=0.0,
        attention_head_dim=sizes["head_dim"],
        n_blocks=sizes["blocks"],
        num_mid_blocks=sizes["mid_blocks"],
        num_heads=sizes["heads"],
        act_fn="gelu",
        meanflow=meanflow,
    )


def mel(
    flow: CausalMaskedDiffWithXvec,
    tokens: np.ndarray,
    *,
    prompt_tokens: np.ndarray,
    prompt_mel: np.ndarray,
    x_vector: np.ndarray,
    noise: np.ndarray,
    meanflow: bool = True,
) -> np.ndarray:
    """Mel (1, 2T, M) of ``tokens`` (1, T) as the reference's ``flow_inference`` calls for it.

    ``noise`` (1, 2 (P + T), M) replaces its random arrays: the prompt's part of the first, which
    has the whole length, and the second, which is the speech's part. The original has one array.
    """
    known = prompt_mel.shape[1]
    noise_tensor = torch.from_numpy(noise).transpose(1, 2).contiguous()
    first = noise_tensor.clone()
    if meanflow:
        first[..., known:] = 100.0  # what must be overwritten
    with (
        mock.patch.object(torch, "randn_like", lambda like: first.clone()),
        mock.patch.object(flow_matching, "tqdm", lambda steps, **_: steps),
        mock.patch("builtins.print"),
    ):
        out, _ = flow.inference(
            token=torch.from_numpy(tokens).long(),
            token_len=torch.tensor([tokens.shape[1]]),
            prompt_token=torch.from_numpy(prompt_tokens).long(),
            prompt_token_len=torch.tensor([prompt_tokens.shape[1]]),
            prompt_feat=torch.from_numpy(prompt_mel),
            prompt_feat_len=None,
            embedding=torch.from_numpy(x_vector),
            finalize=True,
            n_timesteps=2 if meanflow else 10,
            noised_mels=noise_tensor[..., known:] if meanflow else None,
            meanflow=meanflow,
        )
    return out.transpose(1, 2).contiguous().numpy()


def record(context: Context) -> dict[str, np.ndarray]:
    flow = build(context)
    estimator = flow.decoder.estimator
    mels, vocabulary = flow.output_size, flow.vocab_size
    prompt, speech = (16, 24) if context.small else (250, 250)
    frames, known = 2 * (prompt + speech), 2 * prompt
    rng = np.random.default_rng(300).integers
    everything = rng(0, vocabulary, (1, prompt + speech)).astype(np.int32)
    prompt_mel = context.random(1, known, mels, seed=301, scale=2.0) - 5
    noise = context.random(1, frames, mels, seed=302)
    state = context.random(1, frames, mels, seed=303)
    x_vector = context.random(1, context.architecture["s3gen"]["speaker_embedding"], seed=304)

    embedded = flow.input_embedding(torch.from_numpy(everything).long())
    hidden, _ = flow.encoder(embedded, torch.tensor([prompt + speech]))
    mu = flow.encoder_proj(hidden)
    unit = torch.nn.functional.normalize(torch.from_numpy(x_vector), dim=1)
    speaker = flow.spk_embed_affine_layer(unit)
    condition = torch.zeros(1, frames, mels)
    condition[:, :known] = torch.from_numpy(prompt_mel)

    def velocity(x: np.ndarray, t: float, r: float) -> np.ndarray:
        out = estimator(
            torch.from_numpy(x).transpose(1, 2),
            mask=torch.ones(1, 1, frames),
            mu=mu.transpose(1, 2),
            t=torch.tensor([t]),
            r=torch.tensor([r]),
            spks=speaker,
            cond=condition.transpose(1, 2),
        )
        return out.transpose(1, 2).contiguous().numpy()

    return {
        "tokens": everything,
        "prompt": np.array(prompt),
        "speaker": speaker.numpy(),
        "mu": mu.numpy(),
        "velocity_first": velocity(noise, 0.0, 0.5),
        "velocity_second": velocity(state, 0.5, 1.0),
        "mel": mel(
            flow,
            everything[:, prompt:],
            prompt_tokens=everything[:, :prompt],
            prompt_mel=prompt_mel,
            x_vector=x_vector,
            noise=noise,
        ),
    }
