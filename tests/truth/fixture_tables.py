"""The models of `tests.shared.models`."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from tests.shared.models import dcgan, gpt2, llama, moe, recurrent, rrdb, unet, written_norms
from tests.truth.cases import Case
from tests.truth.rows import (
    ADD,
    ATTENTION,
    GATE,
    GELU,
    LRELU_02,
    OUTPUT,
    RELU,
    SIGMOID,
    SILU,
    SOFTMAX,
    TANH,
    WEIGHT,
    WEIGHT_AND_ADD,
    Row,
    fused_qkv,
    gru_gates,
    lstm_gates,
    normed,
)

Table = dict[str, Row]

ROTATED = ATTENTION
"""Rotary position, x * cos + rotate_half(x) * sin, turns one signal; it adds no other to it."""


def unet_table() -> Table:
    """Transposed convolutions feed the next convolution, joined to the skip; all others a relu."""
    table = {
        f"{level}.conv{number}": normed(RELU)
        for level in ("enc1", "enc2", "bottom", "dec2", "dec1")
        for number in (1, 2)
    }
    return table | {"up2": WEIGHT, "up1": WEIGHT, "head": OUTPUT}


def generator() -> Table:
    return {"main.0": normed(RELU), "main.3": normed(RELU), "main.6": normed(RELU), "main.9": TANH}


def discriminator() -> Table:
    return {"main.0": LRELU_02, "main.2": normed(LRELU_02), "main.5": normed(LRELU_02), "main.8": SIGMOID}


def rrdb_table() -> Table:
    """The first convolution is read by the first dense block's, and added at the end of each level."""
    table = {"conv_first": WEIGHT_AND_ADD, "conv_body": ADD, "conv_up": LRELU_02, "conv_last": OUTPUT}
    for block in range(2):
        for dense in ("rdb1", "rdb2", "rdb3"):
            table |= {f"body.{block}.{dense}.conv{number}": LRELU_02 for number in range(1, 5)}
            table[f"body.{block}.{dense}.conv5"] = ADD
    return table


def gpt2_table() -> Table:
    table: Table = {}
    for block in range(2):
        table[f"blocks.{block}.attn.c_attn"] = fused_qkv(16)
        table[f"blocks.{block}.attn.c_proj"] = ADD
        table[f"blocks.{block}.mlp.c_fc"] = GELU
        table[f"blocks.{block}.mlp.c_proj"] = ADD
    return table | {"lm_head": OUTPUT}


def llama_table(qk_norm: bool) -> Table:
    rotated = normed(ROTATED) if qk_norm else ROTATED
    table: Table = {}
    for layer in range(2):
        attention, mlp = f"layers.{layer}.attention", f"layers.{layer}.feed_forward"
        table |= {f"{attention}.wq": rotated, f"{attention}.wk": rotated}
        table |= {f"{attention}.wv": ATTENTION, f"{attention}.wo": ADD}
        table |= {f"{mlp}.w1": SILU, f"{mlp}.w3": GATE, f"{mlp}.w2": ADD}
    return table | {"output": OUTPUT}


def lstm_table() -> Table:
    table = {f"lstm.weight_{kind}_l{layer}": lstm_gates(5) for layer in (0, 1) for kind in ("ih", "hh")}
    return table | {"fc": OUTPUT}


def gru_table() -> Table:
    table = {
        f"gru.weight_{kind}_l0{way}": gru_gates(5, state=kind == "hh")
        for way in ("", "_reverse")
        for kind in ("ih", "hh")
    }
    return table | {"fc": OUTPUT}


def moe_table(hidden: Row) -> Table:
    """The experts' output is multiplied by the router's shares."""
    return {"router": SOFTMAX, "experts.w1": hidden, "experts.w2": GATE, "head": OUTPUT}


def written_norms_table() -> Table:
    table = {"fc1": normed(RELU), "fc2": normed(GELU), "fc3": normed(TANH), "fc4": normed(WEIGHT)}
    return table | {"head": OUTPUT}


def tokens(length: int) -> tuple[torch.Tensor]:
    return (torch.arange(2 * length).view(2, length) % 20,)


def floats(*shape: int) -> tuple[torch.Tensor]:
    return (torch.linspace(-1.0, 1.0, torch.Size(shape).numel()).view(shape),)


def gpt2_case(name: str, attention: type[nn.Module], gelu: type[nn.Module]) -> Case:
    build = partial(gpt2.GPT2, attention, gelu)
    others = ("wte.weight", "wpe.weight")
    return Case(name, build, partial(tokens, 12), gpt2_table, others, exported=True)


def llama_case(name: str, qk_norm: bool) -> Case:
    build, table = partial(llama.LLaMA, qk_norm=qk_norm), partial(llama_table, qk_norm)
    return Case(name, build, partial(tokens, 6), table, ("tok_embeddings.weight",), symbolic=True, exported=not qk_norm)


def moe_case(name: str, spelling: str, hidden: Row) -> Case:
    build, table = partial(moe.MoE, spelling), partial(moe_table, hidden)
    return Case(name, build, partial(floats, 7, 6), table, symbolic=True, exported=True)


FIXTURE_CASES = (
    Case("unet", unet.UNet, partial(floats, 2, 3, 16, 16), unet_table, symbolic=True, exported=True),
    Case("dcgan_generator", dcgan.Generator, partial(floats, 2, 16, 1, 1), generator, symbolic=True),
    Case("dcgan_discriminator", dcgan.Discriminator, partial(floats, 2, 3, 32, 32), discriminator, symbolic=True),
    Case("rrdb", rrdb.RRDBNet, partial(floats, 1, 3, 8, 8), rrdb_table, symbolic=True),
    Case(
        "written_norms",
        written_norms.WrittenNorms,
        partial(floats, 4, 5, 8),
        written_norms_table,
        symbolic=True,
        exported=True,
    ),
    gpt2_case("gpt2_split", gpt2.ManualAttention, gpt2.NewGELU),
    gpt2_case("gpt2_unbind", gpt2.FlashAttention, nn.GELU),
    llama_case("llama", qk_norm=False),
    llama_case("llama_qk_norm", qk_norm=True),
    Case(
        "lstm",
        recurrent.LSTMClassifier,
        partial(tokens, 4),
        lstm_table,
        others=("embedding.weight",),
        symbolic=True,
        exported=True,
    ),
    Case("gru", recurrent.GRUTagger, partial(tokens, 4), gru_table, others=("embedding.weight",), symbolic=True),
    moe_case("moe_einsum", "einsum", SILU),
    moe_case("moe_bmm", "bmm", GELU),
)
