"""The reference's whole way: a clip to a voice, and tokens in that voice to samples."""

from __future__ import annotations

import numpy as np
import torch
from chatterbox.models.t3.modules.cond_enc import T3Cond
from chatterbox.tts_turbo import punc_norm
from tokenizers import Tokenizer

from ..inputs_hift import random_numbers
from ..inputs_t3 import START_SPEECH
from ..texts import SENTENCE
from . import encoders, frontends, hift, s3gen, t3
from .context import Context


def record(context: Context) -> dict[str, np.ndarray]:
    """The voice of the first clip (arrays without a batch), tokens, and their audio (1, N).

    The tokens are random, but for the trained checkpoint, which speaks a sentence.
    """
    features = dict(frontends.features(context.clips[0]))
    weights = context.weights(context.s3gen_file)
    sizes = context.architecture
    tokenizer = encoders.s3_tokenizer(sizes["s3_tokenizer"], encoders.under("tokenizer.", weights))
    x_vector = encoders.campplus(encoders.under("speaker_encoder.", weights), sizes["campplus"])(
        features["kaldi_fbank"]
    )
    speaker = encoders.voice_encoder(context.weights("ve.safetensors"), sizes["voice_encoder"])(
        np.ascontiguousarray(features["voice_mel"])
    )

    def speak(log_mel: np.ndarray) -> np.ndarray:
        mel = torch.from_numpy(np.ascontiguousarray(log_mel.T))[None]
        ids, _ = tokenizer.quantize(mel, torch.tensor([mel.shape[-1]]))
        return ids[0].numpy()

    prompt_tokens = speak(features["s3_log_mel_prompt"])
    # The reference's max_len cuts the features, four frames a token, before they are encoded.
    t3_tokens = speak(features["s3_log_mel_voice"][: 4 * sizes["t3"]["prompt_tokens"]])
    prompt_mel = np.ascontiguousarray(features["prompt_mel"])
    if context.small:
        # The voice of a short prompt: the repository keeps few frames.
        prompt_tokens, prompt_mel = prompt_tokens[:16], prompt_mel[:32]
    assert len(prompt_mel) == 2 * len(prompt_tokens)

    count = 12 if context.small else 247
    tokens = np.random.default_rng(501).integers(0, 6561, (1, count)).astype(np.int32)
    if context.own:
        tokens = _sentence(context, speaker, t3_tokens)
    closed = np.concatenate([tokens, np.full((1, 3), 4299, np.int32)], axis=1)
    frames = 2 * closed.shape[1]
    noise = context.random(1, len(prompt_mel) + frames, prompt_mel.shape[1], seed=502)
    noise *= np.float32(context.settings.get("flow_noise_scale", 1))
    mel = s3gen.mel(
        s3gen.build(context),
        closed,
        prompt_tokens=prompt_tokens[None],
        prompt_mel=prompt_mel[None],
        x_vector=x_vector[None],
        noise=noise,
    )
    phases, source_noise = random_numbers(context, frames)
    audio, _ = hift.inference(
        hift.build(context), torch.from_numpy(mel).transpose(1, 2), phases, source_noise
    )
    fade = hift.fade()
    audio = audio.numpy()
    audio[:, : fade.size] *= fade
    return {
        "tokens": tokens[0],
        "speaker_embedding": speaker,
        "t3_prompt_tokens": t3_tokens,
        "s3gen_prompt_tokens": prompt_tokens,
        "s3gen_prompt_mel": prompt_mel,
        "x_vector": x_vector,
        "audio": audio,
    }


def _sentence(context: Context, speaker: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """The likeliest tokens (1, T) of the sentence, up to the stop token."""
    tokenizer = Tokenizer.from_file(str(context.tokenizer_folder / "tokenizer.json"))
    model = t3.build(context.architecture["t3"], context.weights(context.t3_file))
    condition = T3Cond(
        speaker_emb=torch.from_numpy(speaker)[None],
        cond_prompt_speech_tokens=torch.from_numpy(prompt)[None],
        emotion_adv=None,
    )
    ids = torch.tensor([tokenizer.encode(punc_norm(SENTENCE)).ids])
    tokens = model.inference_turbo(condition, ids, top_k=1)[0]
    return tokens[tokens < START_SPEECH][None].numpy().astype(np.int32)
