"""Every tensor of the upstream files, with its shape, as a function of the model's sizes."""

from __future__ import annotations

from mlx_audio_turbo.config import (
    CAMPlusConfig,
    EncoderConfig,
    EstimatorConfig,
    HiFTConfig,
    ModelConfig,
    OriginalT3Config,
    S3GenConfig,
    S3TokenizerConfig,
    T3Config,
    VoiceEncoderConfig,
)

from ..safetensors_writer import Tensor

LLAMA_TOKENS = 8
"""Rows of Llama's own token table in the original's file, which nothing reads."""
S3_SAMPLES = 400
"""Length of the S3 tokenizer's analysis window, which upstream stores with the weights."""


class _Table(dict[str, Tensor]):
    """Tensors by name, filled layer by layer."""

    def add(self, name: str, *shape: int) -> None:
        self[name] = Tensor("F32", shape)

    def layer(self, name: str, *shape: int, bias: bool = True) -> None:
        """A weight whose first dimension is the output, and its bias."""
        self.add(f"{name}.weight", *shape)
        if bias:
            self.add(f"{name}.bias", shape[0])

    def norm(self, name: str, channels: int) -> None:
        self.layer(name, channels)

    def batch_norm(self, name: str, channels: int, *, affine: bool = True) -> None:
        if affine:
            self.norm(name, channels)
        self.add(f"{name}.running_mean", channels)
        self.add(f"{name}.running_var", channels)
        self[f"{name}.num_batches_tracked"] = Tensor("I64", ())

    def weight_norm(self, name: str, *shape: int, outputs: int | None = None) -> None:
        """A convolution as gain and direction; the gain runs over dimension 0."""
        self.add(f"{name}.bias", shape[0] if outputs is None else outputs)
        self.add(f"{name}.parametrizations.weight.original0", shape[0], 1, 1)
        self.add(f"{name}.parametrizations.weight.original1", *shape)


def t3(config: T3Config | OriginalT3Config) -> dict[str, Tensor]:
    """``t3_*.safetensors``."""
    return _t3_original(config) if isinstance(config, OriginalT3Config) else _t3_turbo(config)


def _t3_original(config: OriginalT3Config) -> dict[str, Tensor]:
    table, width, inner = _Table(), config.width, config.feed_forward
    table.layer("cond_enc.spkr_enc", width, config.speaker_embedding)
    table.add("cond_enc.emotion_adv_fc.weight", width, 1)
    perceiver = "cond_enc.perceiver"
    table.add(f"{perceiver}.pre_attention_query", 1, config.perceiver_queries, width)
    table.norm(f"{perceiver}.attn.norm", width)
    for name in ("to_q", "to_k", "to_v", "proj_out"):
        table.layer(f"{perceiver}.attn.{name}", width, width)
    for name, ids in (("text", config.text_vocabulary), ("speech", config.speech_vocabulary)):
        table.add(f"{name}_emb.weight", ids, width)
        table.add(f"{name}_head.weight", ids, width)
    table.add("text_pos_emb.emb.weight", config.text_positions, width)
    table.add("speech_pos_emb.emb.weight", config.speech_positions, width)
    table.add("tfmr.embed_tokens.weight", LLAMA_TOKENS, width)
    table.add("tfmr.norm.weight", width)
    for i in range(config.layers):
        block = f"tfmr.layers.{i}"
        for name in ("input_layernorm", "post_attention_layernorm"):
            table.add(f"{block}.{name}.weight", width)
        for name in ("q", "k", "v", "o"):
            table.add(f"{block}.self_attn.{name}_proj.weight", width, width)
        for name in ("gate", "up"):
            table.add(f"{block}.mlp.{name}_proj.weight", inner, width)
        table.add(f"{block}.mlp.down_proj.weight", width, inner)
    return dict(table)


def _t3_turbo(config: T3Config) -> dict[str, Tensor]:
    table, width = _Table(), config.width
    table.layer("cond_enc.spkr_enc", width, config.speaker_embedding)
    table.add("speech_emb.weight", config.speech_vocabulary, width)
    table.layer("speech_head", config.speech_vocabulary, width)
    table.add("text_emb.weight", config.text_vocabulary, width)
    table.add("text_head.weight", config.text_vocabulary, width)
    table.add("tfmr.wte.weight", config.text_vocabulary, width)
    table.add("tfmr.wpe.weight", config.positions, width)
    table.norm("tfmr.ln_f", width)
    for i in range(config.layers):
        block = f"tfmr.h.{i}"
        table.norm(f"{block}.ln_1", width)
        table.norm(f"{block}.ln_2", width)
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            table.add(f"{block}.{name}.weight", inputs, outputs)
            table.add(f"{block}.{name}.bias", outputs)
    return dict(table)


def voice_encoder(config: VoiceEncoderConfig) -> dict[str, Tensor]:
    """``ve.safetensors``."""
    table, gates = _Table(), 4 * config.hidden
    for i in range(config.layers):
        table.add(f"lstm.weight_ih_l{i}", gates, config.hidden if i else config.mels)
        table.add(f"lstm.weight_hh_l{i}", gates, config.hidden)
        table.add(f"lstm.bias_ih_l{i}", gates)
        table.add(f"lstm.bias_hh_l{i}", gates)
    table.layer("proj", config.embedding, config.hidden)
    table.add("similarity_weight", 1)
    table.add("similarity_bias", 1)
    return dict(table)


def s3gen(config: ModelConfig) -> dict[str, Tensor]:
    """``s3gen_meanflow.safetensors`` or ``s3gen.safetensors``, which lacks the window."""
    table = _Table()
    _s3_tokenizer(table, config.s3_tokenizer)
    if not config.s3gen.estimator.mean_flow:
        del table["tokenizer.window"]
    _campplus(table, config.campplus)
    _flow(table, config.s3gen)
    _hift(table, config.hift)
    return dict(table)


def _s3_tokenizer(table: _Table, config: S3TokenizerConfig) -> None:
    width = config.width
    table.add("tokenizer._mel_filters", config.mels, S3_SAMPLES // 2 + 1)
    table.add("tokenizer.window", S3_SAMPLES)
    table.layer("tokenizer.encoder.conv1", width, config.mels, 3)
    table.layer("tokenizer.encoder.conv2", width, width, 3)
    for i in range(config.layers):
        block = f"tokenizer.encoder.blocks.{i}"
        for name in ("query", "key", "value", "out"):
            table.layer(f"{block}.attn.{name}", width, width, bias=name != "key")
        table.add(f"{block}.attn.fsmn_block.weight", width, 1, config.memory_kernel)
        table.norm(f"{block}.attn_ln", width)
        table.norm(f"{block}.mlp_ln", width)
        table.layer(f"{block}.mlp.0", 4 * width, width)
        table.layer(f"{block}.mlp.2", width, 4 * width)
    table.layer("tokenizer.quantizer._codebook.project_down", config.codebook_dims, width)


def _campplus(table: _Table, config: CAMPlusConfig) -> None:
    head, planes = "speaker_encoder.head", config.head_channels
    table.add(f"{head}.conv1.weight", planes, 1, 3, 3)
    table.batch_norm(f"{head}.bn1", planes)
    for i, blocks in enumerate(config.head_blocks, 1):
        for j in range(blocks):
            block = f"{head}.layer{i}.{j}"
            for k in (1, 2):
                table.add(f"{block}.conv{k}.weight", planes, planes, 3, 3)
                table.batch_norm(f"{block}.bn{k}", planes)
            if j == 0:  # strided, so its residual is projected
                table.add(f"{block}.shortcut.0.weight", planes, planes, 1, 1)
                table.batch_norm(f"{block}.shortcut.1", planes)
    table.add(f"{head}.conv2.weight", planes, planes, 3, 3)
    table.batch_norm(f"{head}.bn2", planes)

    body, channels = "speaker_encoder.xvector", config.initial_channels
    strides = len(config.head_blocks) + 1
    table.add(f"{body}.tdnn.linear.weight", channels, planes * (config.mels // 2**strides), 5)
    table.batch_norm(f"{body}.tdnn.nonlinear.batchnorm", channels)
    inner = config.bottleneck * config.growth
    for i, layers in enumerate(config.block_layers, 1):
        for j in range(1, layers + 1):
            layer = f"{body}.block{i}.tdnnd{j}"
            table.batch_norm(f"{layer}.nonlinear1.batchnorm", channels)
            table.add(f"{layer}.linear1.weight", inner, channels, 1)
            table.batch_norm(f"{layer}.nonlinear2.batchnorm", inner)
            kernel = config.block_kernels[i - 1]
            table.add(f"{layer}.cam_layer.linear_local.weight", config.growth, inner, kernel)
            table.layer(f"{layer}.cam_layer.linear1", inner // 2, inner, 1)
            table.layer(f"{layer}.cam_layer.linear2", config.growth, inner // 2, 1)
            channels += config.growth
        table.batch_norm(f"{body}.transit{i}.nonlinear.batchnorm", channels)
        table.add(f"{body}.transit{i}.linear.weight", channels // 2, channels, 1)
        channels //= 2
    table.batch_norm(f"{body}.out_nonlinear.batchnorm", channels)
    table.add(f"{body}.dense.linear.weight", config.embedding, 2 * channels, 1)
    table.batch_norm(f"{body}.dense.nonlinear.batchnorm", config.embedding, affine=False)


def _flow(table: _Table, config: S3GenConfig) -> None:
    table.add("flow.input_embedding.weight", config.vocabulary, config.encoder.width)
    table.layer("flow.spk_embed_affine_layer", config.mels, config.speaker_embedding)
    table.layer("flow.encoder_proj", config.mels, config.encoder.width)
    _encoder(table, config.encoder)
    _estimator(table, config.estimator, config.mels)


def _encoder(table: _Table, config: EncoderConfig) -> None:
    encoder, width = "flow.encoder", config.width
    for embed in ("embed", "up_embed"):
        table.layer(f"{encoder}.{embed}.out.0", width, width)
        table.norm(f"{encoder}.{embed}.out.1", width)
    table.layer(f"{encoder}.pre_lookahead_layer.conv1", width, width, config.lookahead + 1)
    table.layer(f"{encoder}.pre_lookahead_layer.conv2", width, width, 3)
    table.layer(f"{encoder}.up_layer.conv", width, width, 5)
    table.norm(f"{encoder}.after_norm", width)
    blocks = [f"{encoder}.encoders.{i}" for i in range(config.blocks)]
    blocks += [f"{encoder}.up_encoders.{i}" for i in range(config.up_blocks)]
    for block in blocks:
        for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
            table.layer(f"{block}.self_attn.{name}", width, width)
        table.add(f"{block}.self_attn.linear_pos.weight", width, width)
        table.add(f"{block}.self_attn.pos_bias_u", config.heads, config.head_dim)
        table.add(f"{block}.self_attn.pos_bias_v", config.heads, config.head_dim)
        table.layer(f"{block}.feed_forward.w_1", config.feed_forward, width)
        table.layer(f"{block}.feed_forward.w_2", width, config.feed_forward)
        table.norm(f"{block}.norm_mha", width)
        table.norm(f"{block}.norm_ff", width)


def _estimator(table: _Table, config: EstimatorConfig, mels: int) -> None:
    estimator = "flow.decoder.estimator"
    channels, time, inner = config.channels, config.time_embedding, config.heads * config.head_dim

    def block1d(name: str, inputs: int) -> None:
        table.layer(f"{name}.block.0", channels, inputs, 3)
        table.norm(f"{name}.block.2", channels)

    def stage(name: str, inputs: int, *, convolution: bool) -> None:
        block1d(f"{name}.0.block1", inputs)
        block1d(f"{name}.0.block2", channels)
        table.layer(f"{name}.0.mlp.1", channels, time)
        table.layer(f"{name}.0.res_conv", channels, inputs, 1)
        for i in range(config.blocks):
            layer = f"{name}.1.{i}"
            table.norm(f"{layer}.norm1", channels)
            table.norm(f"{layer}.norm3", channels)
            for part in ("to_q", "to_k", "to_v"):
                table.layer(f"{layer}.attn1.{part}", inner, channels, bias=False)
            table.layer(f"{layer}.attn1.to_out.0", channels, inner)
            table.layer(f"{layer}.ff.net.0.proj", config.feed_forward, channels)
            table.layer(f"{layer}.ff.net.2", channels, config.feed_forward)
        if convolution:
            table.layer(f"{name}.2", channels, channels, 3)

    # x, mu, speaker and condition side by side
    table.layer(f"{estimator}.time_mlp.linear_1", time, 4 * mels)
    table.layer(f"{estimator}.time_mlp.linear_2", time, time)
    if config.mean_flow:
        table.add(f"{estimator}.time_embed_mixer.weight", time, 2 * time)
    stage(f"{estimator}.down_blocks.0", 4 * mels, convolution=True)
    for i in range(config.mid_blocks):
        stage(f"{estimator}.mid_blocks.{i}", channels, convolution=False)
    stage(f"{estimator}.up_blocks.0", 2 * channels, convolution=True)
    block1d(f"{estimator}.final_block", channels)
    table.layer(f"{estimator}.final_proj", mels, channels, 1)


def _hift(table: _Table, config: HiFTConfig) -> None:
    vocoder, channels, spectrum = "mel2wav", config.channels, config.fft + 2

    def resblock(name: str, width: int, kernel: int, dilations: tuple[int, ...]) -> None:
        for i in range(len(dilations)):
            for side in (1, 2):
                table.weight_norm(f"{name}.convs{side}.{i}", width, width, kernel)
                table.add(f"{name}.activations{side}.{i}.alpha", width)

    table.weight_norm(f"{vocoder}.conv_pre", channels, config.mels, 7)
    strides = _source_strides(config.upsample_rates)
    for i, kernel in enumerate(config.upsample_kernels):
        inputs, channels = channels, channels // 2
        table.weight_norm(f"{vocoder}.ups.{i}", inputs, channels, kernel, outputs=channels)
        down = 2 * strides[i] if strides[i] > 1 else 1
        table.layer(f"{vocoder}.source_downs.{i}", channels, spectrum, down)
        resblock(
            f"{vocoder}.source_resblocks.{i}",
            channels,
            config.source_kernels[i],
            config.source_dilations[i],
        )
        kinds = zip(config.resblock_kernels, config.resblock_dilations, strict=True)
        for j, (width, dilations) in enumerate(kinds):
            number = i * len(config.resblock_kernels) + j
            resblock(f"{vocoder}.resblocks.{number}", channels, width, dilations)
    table.weight_norm(f"{vocoder}.conv_post", spectrum, channels, 7)
    table.layer(f"{vocoder}.m_source.l_linear", 1, config.harmonics + 1)
    for i in range(config.f0_layers):
        table.weight_norm(
            # every other entry of the sequence is an activation
            f"{vocoder}.f0_predictor.condnet.{2 * i}",
            config.f0_channels,
            config.f0_channels if i else config.mels,
            3,
        )
    table.layer(f"{vocoder}.f0_predictor.classifier", 1, config.f0_channels)


def _source_strides(rates: tuple[int, ...]) -> list[int]:
    """How far the source spectrum is strided to meet the signal after each upsampling."""
    strides = [1]
    for rate in rates[:0:-1]:
        strides.append(strides[-1] * rate)
    return strides[::-1]
