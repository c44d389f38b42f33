"""Public models against the recipe that they claim to follow, each with the command that shows it."""

import re
import shlex
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import _torchvision as _torchvision  # its operators, before anything imports it
import torch
from _steps import Record
from rich.markup import escape
from rich.table import Table

from autoinit.checking.checker import check
from autoinit.checking.findings import Finding
from autoinit.loading import load

SEED = 0
TITLE = "Public models against the recipe that they claim"


@dataclass(frozen=True)
class Claim:
    """A model, and the recipe that its library says, or its paper has.

    Attributes:
        spec: as `autoinit check` takes it.
        recipe: as it takes it, too.
        why: where the claim is made.
        arguments: of the model's constructor, so that it is small.
    """

    spec: str
    recipe: str
    why: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """What shows it."""
        given = [word for name, value in self.arguments.items() for word in ("--arg", f"{name}={value}")]
        return shlex.join(["autoinit", "check", self.spec, *given, "--recipe", self.recipe, "--verbose"])


_TWO = {"num_hidden_layers": 2}
CLAIMS = (
    Claim("hf:gpt2", "gpt2", "Radford et al. 2019", {"n_layer": 2}),
    Claim("hf:llama", "llama", "its own modeling_llama.py", {**_TWO, "hidden_size": 256, "intermediate_size": 512,
                                                             "num_attention_heads": 4}),
    Claim("hf:deit", "bert", "its tokens and positions are drawn with 0.02", _TWO),
    Claim("hf:clip_text_model", "clip", "openai/CLIP", _TWO),
    Claim("hf:mamba", "mamba", "state-spaces/mamba", _TWO),
    Claim("hf:swin", "swin", "microsoft/Swin-Transformer"),
    Claim("hf:beit", "beit", "microsoft/unilm", {**_TWO, "use_relative_position_bias": True}),
    Claim("hf:nanochat", "nanochat", "karpathy/nanochat", {**_TWO, "vocab_size": 1024, "hidden_size": 256,
                                                           "intermediate_size": 1024}),
    Claim("torchvision:mobilenet_v2", "mobilenet", "He et al. 2015, groups counted"),
    Claim("torchvision:efficientnet_b0", "efficientnet", "google's tpu repository"),
    Claim("torchvision:resnext50_32x4d", "resnet", "He et al. 2015, groups counted"),
    Claim("timm:convnext_tiny", "convnext", "facebookresearch/ConvNeXt"),
    Claim("timm:vit_tiny_patch16_224", "vit", "Touvron et al. 2021"),
    Claim("timm:efficientnet_b0", "efficientnet", "google's tpu repository"),
)  # fmt: skip


def strays(claim: Claim) -> list[Record]:
    """What strays from the claim, one record for each kind of parameter."""
    torch.manual_seed(SEED)
    model = load(claim.spec, arguments=dict(claim.arguments)).model
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for each in check(model, recipe=claim.recipe).findings:
        if each.code == "INI006" or "by the recipe" in each.message:
            kinds.setdefault((re.sub(r"\d+", "*", each.param), each.code), []).append(each)
    return [_record(pattern, code, found, model) for (pattern, code), found in kinds.items()]


def _record(pattern: str, code: str, found: list[Finding], model: torch.nn.Module) -> Record:
    values = [model.get_parameter(each.param).detach().float() for each in found]
    told = f"std {statistics.median(each.std(correction=0).item() for each in values):.3g}"
    if code == "INI006":
        told = f"elements up to {max(each.abs().max().item() for each in values):.3g}"
    return {
        "parameters": pattern,
        "count": len(found),
        "code": code,
        "is": told,
        "expected": statistics.median(each.expected_std or 0.0 for each in found),
    }


def audited(claims: tuple[Claim, ...] = CLAIMS) -> Iterator[Record]:
    """One record for each claim."""
    for claim in claims:
        yield {"model": claim.spec, "recipe": claim.recipe, "claimed": claim.why, "command": claim.command,
               "strays": strays(claim)}  # fmt: skip


def table(records: list[Record]) -> Table:
    """The records for people: one row for each kind of parameter that strays, one for a model without any."""
    shown = Table(title=TITLE)
    for column in ("model", "recipe", "what strays", "n", "is", "expected std", "command"):
        shown.add_column(column, overflow="fold")
    for each in records:
        first = (escape(each["model"]), each["recipe"])
        for number, stray in enumerate(each["strays"]):
            head = first if number == 0 else ("", "")
            command = escape(each["command"]) if number == 0 else ""
            shown.add_row(*head, escape(stray["parameters"]), str(stray["count"]), stray["is"],
                          f"{stray['expected']:.3g}", command)  # fmt: skip
        if not each["strays"]:
            shown.add_row(*first, "nothing", "", "", "", escape(each["command"]))
    return shown
