"""Models of transformers, one small member of each of eight families, built by their own classes on the meta device.

Where a weight is tied to an embedding, the parameter is known by the name that comes first in the model: the layer
is the embedding's, and it is the head that gives it a place among the weight layers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from tests.truth.cases import Case
from tests.truth.rows import (
    ADD,
    ATTENTION,
    GATE,
    GELU,
    OUTPUT,
    SILU,
    SOFTMAX,
    TANH,
    WEIGHT,
    Row,
    activation,
    fused_qkv,
    normed,
    parted,
)

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers")

Table = dict[str, Row]

LAYERS = 2
"""Blocks of every model, in the encoder and in the decoder."""

PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def build(model: str, config: Callable[[], Any]) -> nn.Module:
    """A model of transformers on the meta device."""
    with torch.device("meta"):
        built: nn.Module = getattr(transformers, model)(config())
    return built


def tokens(length: int = 7) -> torch.Tensor:
    return torch.arange(2 * length).view(2, length) % 20


def token_input() -> tuple[torch.Tensor]:
    return (tokens(),)


def attention(place: str, inward: tuple[str, ...], outward: str) -> Table:
    """Query, key and value enter the attention; what leaves it is added to the residual stream."""
    return {f"{place}.{name}": ATTENTION for name in inward} | {f"{place}.{outward}": ADD}


def gpt2_config() -> Any:
    return transformers.GPT2Config(
        vocab_size=61, n_positions=32, n_embd=48, n_layer=LAYERS, n_head=3, n_inner=40, bos_token_id=0, eos_token_id=0
    )


def gpt2() -> Table:
    """Radford et al. 2019: pre-norm blocks, GELU by its tanh approximation, head tied to the token embedding.

    All projections are `Conv1D`, x @ W + b with W (in, out). `c_attn` is query, key and value in one, 48 columns each;
    both `c_proj` end a branch of the residual stream.
    """
    table: Table = {}
    for layer in range(LAYERS):
        block = f"transformer.h.{layer}"
        table |= {f"{block}.attn.c_attn": fused_qkv(48), f"{block}.attn.c_proj": ADD}
        table |= {f"{block}.mlp.c_fc": GELU, f"{block}.mlp.c_proj": ADD}
    return table | {"transformer.wte": OUTPUT}


def llama_config() -> Any:
    return transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=48,
        intermediate_size=36,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=10,
    )


def rotary_attention(layer: str) -> Table:
    """Grouped-query attention with rotary positions.

    x * cos + rotate_half(x) * sin turns one signal and adds no other to it; keys and values are repeated over the
    query heads that share them.
    """
    return attention(f"{layer}.self_attn", PROJECTIONS, "o_proj")


def llama() -> Table:
    """Touvron et al. 2023: RMS norm before each branch, SwiGLU (Shazeer 2020): down(silu(gate x) * up x).

    No norm stands between a projection and what it feeds. The head is not tied.
    """
    table: Table = {}
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        table |= rotary_attention(layer)
        table |= {f"{layer}.mlp.gate_proj": SILU, f"{layer}.mlp.up_proj": GATE, f"{layer}.mlp.down_proj": ADD}
    return table | {"lm_head": OUTPUT}


def t5_config() -> Any:
    return transformers.T5Config(
        vocab_size=61,
        d_model=32,
        d_kv=12,
        d_ff=40,
        num_layers=LAYERS,
        num_heads=3,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )


def t5_input() -> tuple[torch.Tensor, ...]:
    """Input, its mask, and the decoder's input."""
    return tokens(7), torch.ones(2, 7, dtype=torch.long), tokens(5)


def t5() -> Table:
    """Raffel et al. 2020, version 1.1: RMS norm before each branch, GEGLU: wo(gelu(wi_0 x) * wi_1 x).

    The position bias is looked up in a table of the first block of each stack and added to the attention's logits.
    Encoder, decoder and head share one embedding (the library always ties them).
    """
    table: Table = {}
    for stack, feed_forward in (("encoder", 1), ("decoder", 2)):
        for number in range(LAYERS):
            block = f"{stack}.block.{number}.layer"
            table |= attention(f"{block}.0.SelfAttention", ("q", "k", "v"), "o")
            if stack == "decoder":
                table |= attention(f"{block}.1.EncDecAttention", ("q", "k", "v"), "o")
            mlp = f"{block}.{feed_forward}.DenseReluDense"
            table |= {f"{mlp}.wi_0": GELU, f"{mlp}.wi_1": GATE, f"{mlp}.wo": ADD}
    return table | {"shared": OUTPUT}


def bert_config() -> Any:
    return transformers.BertConfig(
        vocab_size=61, hidden_size=48, num_hidden_layers=LAYERS, num_attention_heads=3, intermediate_size=40
    )


def bert() -> Table:
    """Devlin et al. 2019, with both heads of its pre-training.

    Post-norm: every branch is added to its input before the layer norm, so no norm comes before the addition.
    The pooler is a tanh layer over the first token and feeds the next-sentence head. The masked-language head is a
    GELU layer and a decoder tied to the word embedding.
    """
    table: Table = {}
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        table |= {f"{layer}.attention.self.{name}": ATTENTION for name in ("query", "key", "value")}
        table |= {f"{layer}.attention.output.dense": ADD}
        table |= {f"{layer}.intermediate.dense": GELU, f"{layer}.output.dense": ADD}
    table |= {"bert.pooler.dense": TANH, "cls.predictions.transform.dense": GELU}
    return table | {"bert.embeddings.word_embeddings": OUTPUT, "cls.seq_relationship": OUTPUT}


def whisper_config() -> Any:
    return transformers.WhisperConfig(
        vocab_size=61,
        num_mel_bins=6,
        d_model=32,
        encoder_layers=LAYERS,
        encoder_attention_heads=4,
        encoder_ffn_dim=40,
        decoder_layers=LAYERS,
        decoder_attention_heads=2,
        decoder_ffn_dim=44,
        max_source_positions=10,
        max_target_positions=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        begin_suppress_tokens=None,
    )


def whisper_input() -> tuple[torch.Tensor, ...]:
    """Mel features (the length that the positions and the stride of 2 ask for), their mask, the decoder's input."""
    return torch.linspace(-1.0, 1.0, 2 * 6 * 20).view(2, 6, 20), torch.ones(2, 20, dtype=torch.long), tokens(5)


def whisper() -> Table:
    """Radford et al. 2022: two convolutions with GELU, then a pre-norm encoder and decoder with GELU.

    The query is multiplied by a constant before the attention. The head is tied to the decoder's embedding.
    """
    table: Table = {"model.encoder.conv1": GELU, "model.encoder.conv2": GELU}
    for stack, attentions in (("encoder", ("self_attn",)), ("decoder", ("self_attn", "encoder_attn"))):
        for number in range(LAYERS):
            layer = f"model.{stack}.layers.{number}"
            for name in attentions:
                table |= attention(f"{layer}.{name}", PROJECTIONS, "out_proj")
            table |= {f"{layer}.fc1": GELU, f"{layer}.fc2": ADD}
    return table | {"model.decoder.embed_tokens": OUTPUT}


def wav2vec2_config() -> Any:
    return transformers.Wav2Vec2Config(
        vocab_size=31,
        hidden_size=36,
        num_hidden_layers=LAYERS,
        num_attention_heads=3,
        intermediate_size=40,
        conv_dim=(16, 24, 20),
        conv_kernel=(5, 3, 2),
        conv_stride=(3, 2, 2),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
        mask_time_length=1,
        layerdrop=0.0,
        num_codevectors_per_group=5,
        codevector_dim=14,
        proj_codevector_dim=18,
    )


def wav2vec2_input() -> tuple[torch.Tensor]:
    return (torch.linspace(-1.0, 1.0, 2 * 400).view(2, 400),)


POSITIONAL = "wav2vec2.encoder.pos_conv_embed.conv"
DIRECTION = f"{POSITIONAL}.parametrizations.weight.original1"


def wav2vec2_body() -> Table:
    """Baevski et al. 2020, base: convolutions with GELU, the first with a group norm, then a post-norm encoder.

    The projected features (masked in training) are read by the positional convolution and, nearer, by the addition
    of its output. That convolution is weight-normed and grouped; its last position is cut off before the GELU.
    """
    extractor = "wav2vec2.feature_extractor.conv_layers"
    table: Table = {f"{extractor}.0.conv": normed(GELU), f"{extractor}.1.conv": GELU, f"{extractor}.2.conv": GELU}
    table |= {"wav2vec2.feature_projection.projection": ADD, POSITIONAL: GELU}
    for number in range(LAYERS):
        layer = f"wav2vec2.encoder.layers.{number}"
        table |= attention(f"{layer}.attention", PROJECTIONS, "out_proj")
        feed_forward = f"{layer}.feed_forward"
        table |= {f"{feed_forward}.intermediate_dense": GELU, f"{feed_forward}.output_dense": ADD}
    return table


def wav2vec2_ctc() -> Table:
    """With a linear head over the characters."""
    return wav2vec2_body() | {"lm_head": OUTPUT}


def wav2vec2_pretraining() -> Table:
    """With the quantizer: logits through a Gumbel softmax choose code vectors, which an elementwise product looks up.

    Without negatives to contrast them with, both projections are returned.
    """
    return wav2vec2_body() | {"quantizer.weight_proj": SOFTMAX, "project_hid": OUTPUT, "project_q": OUTPUT}


def mamba_config() -> Any:
    return transformers.MambaConfig(
        vocab_size=61, hidden_size=24, state_size=5, num_hidden_layers=LAYERS, conv_kernel=3, time_step_rank=4
    )


SOFTPLUS = activation("softplus", beta=1.0, threshold=20.0)


def mamba() -> Table:
    """Gu & Dao 2023: one mixer in each residual branch, after an RMS norm.

    `in_proj` is two: 48 rows read by the depthwise convolution, and 48 that gate the output through silu. The
    convolution feeds silu. `x_proj` is three: the time step's 4 features, read by `dt_proj`; the input matrix B's 5,
    multiplied by the time step; the output matrix C's 5, a matrix product with the state. The reader `dt_proj` is the
    nearest. `dt_proj` is W @ x, its bias added before softplus. The head is tied to the embedding.
    """
    table: Table = {}
    for layer in range(LAYERS):
        mixer = f"backbone.layers.{layer}.mixer"
        table[f"{mixer}.in_proj"] = parted(Row("silu", "mixed"), (48, WEIGHT), (48, SILU))
        table[f"{mixer}.conv1d"] = SILU
        table[f"{mixer}.x_proj"] = parted(WEIGHT, (4, WEIGHT), (5, GATE), (5, ATTENTION))
        table[f"{mixer}.dt_proj"] = SOFTPLUS
        table[f"{mixer}.out_proj"] = ADD
    return table | {"backbone.embeddings": OUTPUT}


def mixtral_config(experts: str) -> Any:
    return transformers.MixtralConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=10,
        num_local_experts=3,
        num_experts_per_tok=2,
        experts_implementation=experts,
    )


def mixtral() -> Table:
    """Jiang et al. 2024: LLaMA's attention, and experts of the same SwiGLU kind that a router chooses.

    The experts' weights are stacked, (expert, out, in): gate and up in one, 24 rows each; what `down_proj` returns is
    multiplied by the router's softmax before it is summed over the chosen experts.
    """
    table: Table = {}
    for number in range(LAYERS):
        layer = f"model.layers.{number}"
        table |= rotary_attention(layer)
        table[f"{layer}.mlp.gate"] = SOFTMAX
        table[f"{layer}.mlp.experts.gate_up_proj"] = parted(Row("silu", "mixed"), (24, SILU), (24, GATE))
        table[f"{layer}.mlp.experts.down_proj"] = GATE
    return table | {"lm_head": OUTPUT}


def mixtral_case(experts: str) -> Case:
    build_it = partial(build, "MixtralForCausalLM", partial(mixtral_config, experts))
    return Case(f"mixtral_{experts}", build_it, token_input, mixtral, others=("model.embed_tokens.weight",))


def wav2vec2_case(name: str, model: str, table: Callable[[], Table], *others: str) -> Case:
    """Beside the direction, weight norm has a magnitude for each kernel position."""
    magnitude = DIRECTION.replace("original1", "original0")
    return Case(name, partial(build, model, wav2vec2_config), wav2vec2_input, table, others=(magnitude, *others))


CASES: tuple[Case, ...] = (
    Case("gpt2", partial(build, "GPT2LMHeadModel", gpt2_config), token_input, gpt2, others=("transformer.wpe.weight",)),
    Case(
        "llama",
        partial(build, "LlamaForCausalLM", llama_config),
        token_input,
        llama,
        others=("model.embed_tokens.weight",),
    ),
    Case(
        "t5",
        partial(build, "T5ForConditionalGeneration", t5_config),
        t5_input,
        t5,
        others=tuple(
            f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for stack in ("encoder", "decoder")
        ),
    ),
    Case(
        "bert",
        partial(build, "BertForPreTraining", bert_config),
        token_input,
        bert,
        others=tuple(f"bert.embeddings.{kind}_embeddings.weight" for kind in ("position", "token_type")),
    ),
    Case(
        "whisper",
        partial(build, "WhisperForConditionalGeneration", whisper_config),
        whisper_input,
        whisper,
        others=tuple(f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")),
    ),
    wav2vec2_case("wav2vec2_ctc", "Wav2Vec2ForCTC", wav2vec2_ctc),
    wav2vec2_case("wav2vec2_pretraining", "Wav2Vec2ForPreTraining", wav2vec2_pretraining, "quantizer.codevectors"),
    Case(
        "mamba",
        partial(build, "MambaForCausalLM", mamba_config),
        token_input,
        mamba,
        others=tuple(f"backbone.layers.{layer}.mixer.A_log" for layer in range(LAYERS)),
    ),
    mixtral_case("grouped_mm"),
    mixtral_case("eager"),
)


def by_parameter(case: Case) -> Case:
    """The case with its weight-normed layer under the name of the parameter that holds the direction."""
    table = {DIRECTION if name == POSITIONAL else name: row for name, row in case.table().items()}
    return replace(case, table=lambda: table)
