"""The models that predictions are held against, and what to feed each: small inputs, so that real passes are quick."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _truth import BY_NAME
from torch import nn

BATCH = 8
TOKENS = 32


@dataclass(frozen=True)
class Entry:
    """A model by name.

    kind: what it stands for. make: constructs it as its library initialises it. inputs: a batch of fresh inputs.
    """

    name: str
    kind: str
    make: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Any]


def _images(side: int) -> Callable[[torch.Generator], Any]:
    return lambda generator: torch.empty(BATCH, 3, side, side).normal_(generator=generator)


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import torchvision

        made: nn.Module = torchvision.models.get_model(name, weights=None, **options)
        return made

    return make


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import timm

        made: nn.Module = timm.create_model(name, **options)
        return made

    return make


_TORCHVISION: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("alexnet", "plain", 128, {}),
    ("vgg11", "plain", 64, {}),
    ("vgg16", "plain", 64, {}),
    ("vgg13_bn", "plain with norm", 64, {}),
    ("squeezenet1_1", "plain", 96, {}),
    ("resnet18", "residual", 96, {}),
    ("resnet50", "residual", 96, {}),
    ("resnext50_32x4d", "residual, grouped", 96, {}),
    ("wide_resnet50_2", "residual", 64, {}),
    ("densenet121", "dense", 64, {}),
    ("googlenet", "branches", 96, {"init_weights": False, "aux_logits": False}),
    ("mobilenet_v2", "depthwise", 96, {}),
    ("mobilenet_v3_small", "squeeze-and-excite", 96, {}),
    ("mobilenet_v3_large", "squeeze-and-excite", 96, {}),
    ("mnasnet1_0", "depthwise", 96, {}),
    ("shufflenet_v2_x1_0", "depthwise", 96, {}),
    ("efficientnet_b0", "squeeze-and-excite", 96, {}),
    ("regnet_y_400mf", "squeeze-and-excite", 96, {}),
    ("regnet_x_400mf", "residual, grouped", 96, {}),
    ("convnext_tiny", "depthwise", 64, {}),
    ("vit_b_16", "transformer", 64, {"image_size": 64}),
    ("swin_t", "windows", 64, {}),
    ("swin_v2_t", "windows", 64, {}),
)
_TIMM: tuple[tuple[str, str, int, dict[str, Any]], ...] = (
    ("vit_small_patch16_224", "transformer", 64, {"img_size": 64}),
    ("deit_tiny_patch16_224", "transformer", 64, {"img_size": 64}),
    ("mixer_s32_224", "mixer", 224, {}),
    ("gmlp_s16_224", "mixer, gated", 224, {}),
    ("resmlp_12_224", "mixer", 224, {}),
    ("repvgg_a0", "branches", 96, {}),
    ("nfnet_f0", "norm-free", 64, {}),
    ("nf_resnet50", "norm-free", 64, {}),
    ("ecaresnet26t", "attention over channels", 96, {}),
    ("seresnet50", "squeeze-and-excite", 64, {}),
    ("darknet53", "residual", 64, {}),
    ("cspresnet50", "branches", 64, {}),
    ("vovnet39a", "dense", 64, {}),
    ("resnet26d", "average-pooled", 96, {}),
    ("coatnet_nano_rw_224", "convolution and attention", 224, {}),
    ("poolformer_s12", "average-pooled", 96, {}),
)


class Tokens:
    """Wraps one of transformers' models: takes ids, returns what its head or body makes."""

    def __init__(self, family: str, head: str, options: dict[str, Any]) -> None:
        self.family, self.head, self.options = family, head, options

    def __call__(self) -> nn.Module:
        import transformers
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        config = CONFIG_MAPPING[self.family](**self.options)
        made: nn.Module = getattr(transformers, self.head).from_config(config)
        return made


def _ids(words: int) -> Callable[[torch.Generator], Any]:
    return lambda generator: {"input_ids": torch.randint(5, words, (BATCH, TOKENS), generator=generator)}


_SMALL = {"vocab_size": 2000, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
_TRANSFORMERS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("gpt2", "decoder", "AutoModelForCausalLM", {"vocab_size": 2000, "n_embd": 256, "n_layer": 6, "n_head": 4}),
    ("bert", "encoder", "AutoModel", {**_SMALL, "intermediate_size": 1024}),
    ("llama", "decoder", "AutoModelForCausalLM", {**_SMALL, "intermediate_size": 704}),
    ("roberta", "encoder", "AutoModel", {**_SMALL, "intermediate_size": 1024}),
)


def entries() -> Iterator[Entry]:
    """All of them."""
    for name, kind, side, options in _TORCHVISION:
        yield Entry(f"torchvision:{name}", kind, _torchvision(name, **options), _images(side))
    for name, kind, side, options in _TIMM:
        yield Entry(f"timm:{name}", kind, _timm(name, **options), _images(side))
    for name, kind, head, options in _TRANSFORMERS:
        yield Entry(f"hf:{name}", kind, Tokens(name, head, options), _ids(options["vocab_size"]))
    unet = BY_NAME["unet"]
    yield Entry("unet", "encoder and decoder", unet.build, lambda generator: _like(unet.inputs(), generator))


def _like(given: tuple[Any, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    return tuple(torch.empty(BATCH, *each.shape[1:]).normal_(generator=generator) for each in given)
