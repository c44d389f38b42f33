"""Model constructors of packages that nothing else here knows: listed by a rule for some, by looking for classes else.

An entry gives a package's names, the construction of one of them, and inputs for those whose inputs cannot be guessed.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

SIZE = 64
"""Positions along each axis of images and volumes that constructors ask for."""

ARGUMENTS: dict[str, Any] = {
    "block_inplanes": [8, 16, 32, 64],
    "channels": (8, 16, 32),
    "classes": 3,
    "attn_layers_depth": 2,
    "attn_layers_dim": 32,
    "attn_layers_heads": 4,
    "decode_channels": (16, 8),
    "depth": 2,
    "dim": 32,
    "encode_channels": (8, 16),
    "hidden_size": 32,
    "image_size": SIZE,
    "img_size": (SIZE, SIZE),
    "in_channels": 3,
    "in_shape": (3, SIZE, SIZE),
    "input_dim": 32,
    "input_shape": (SIZE, SIZE),
    "input_image_size": (SIZE, SIZE),
    "label_nc": 3,
    "latent_size": 8,
    "max_seq_len": SIZE,
    "mlp_dim": 64,
    "num_channel_initial": 8,
    "num_classes": 3,
    "num_heads": 4,
    "num_d": 2,
    "num_layers": 2,
    "num_layers_d": 2,
    "num_tokens": 100,
    "out_channels": 3,
    "out_shape": (3, SIZE, SIZE),
    "patch_size": 16,
    "spatial_dims": 2,
    "strides": (2, 2, 2),
}
"""What constructors are given for arguments without a default, by the arguments' usual names; and `spatial_dims`, so
that images of two axes go with it."""


class UnknownArgumentError(Exception):
    """A constructor asks for something that the table of arguments does not have."""


@dataclass(frozen=True)
class Package:
    """Where a package's models come from.

    names: of its models. prepare: from a name to what constructs the model. inputs: from a name to inputs of it, for
    when none can be guessed; None where there are none to give.
    """

    names: Callable[[], list[str]]
    prepare: Callable[[str], Callable[[], nn.Module]]
    inputs: Callable[[str], Any] | None = None


def package(name: str) -> Package:
    """The entry of a package; any importable one has one.

    Raises:
        ImportError: there is no such package, or it cannot be imported.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    importlib.import_module(name)
    return _searched(name)


def _called(constructor: Callable[..., Any]) -> nn.Module:
    """What a constructor makes, given only what it must be."""
    given = {}
    for parameter in inspect.signature(constructor).parameters.values():
        if parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        if parameter.name not in ARGUMENTS:
            raise UnknownArgumentError(f"{constructor.__name__} needs {parameter.name}")
        given[parameter.name] = ARGUMENTS[parameter.name]
    made = constructor(**given)
    if not isinstance(made, nn.Module):
        raise TypeError(f"{constructor.__name__} gives a {type(made).__name__}, no module")
    return made


def _searched(name: str) -> Package:
    """The classes of modules that a package itself defines."""

    def modules() -> Iterator[ModuleType]:
        top = importlib.import_module(name)
        yield top
        for found in pkgutil.walk_packages(getattr(top, "__path__", []), f"{name}."):
            if not any(part.startswith("_") or part in ("test", "tests") for part in found.name.split(".")):
                try:
                    yield importlib.import_module(found.name)
                except Exception:  # noqa: BLE001 - a module whose own dependencies are missing has no models here
                    continue

    def classes() -> dict[str, type[nn.Module]]:
        return {
            f"{each.__module__}:{each.__name__}": each
            for module in modules()
            for each in vars(module).values()
            if inspect.isclass(each)
            and issubclass(each, nn.Module)
            and each.__module__ == module.__name__
            and "forward" in vars(each)
            and not each.__name__.startswith("_")
        }

    def prepare(wanted: str) -> Callable[[], nn.Module]:
        home, _, kind = wanted.partition(":")
        return lambda: _called(getattr(importlib.import_module(home), kind))

    return Package(lambda: list(classes()), prepare, lambda wanted: _for_first_layer(prepare(wanted)()))


def _for_first_layer(model: nn.Module) -> torch.Tensor:
    """One sample that the first convolution or linear layer of a model takes."""
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return torch.zeros(1, module.in_channels, *(SIZE,) * (module.weight.dim() - 2))
        if isinstance(module, nn.Linear):
            return torch.zeros(1, module.in_features)
    return torch.zeros(1, 3, SIZE, SIZE)


def _exported(name: str) -> Package:
    """The classes of modules that one room of a package offers by name: whole networks, not their parts."""

    def names() -> list[str]:
        named = vars(importlib.import_module(name)).values()
        found = {each.__name__: each for each in named if inspect.isclass(each) and issubclass(each, nn.Module)}
        return list(found)

    def prepare(wanted: str) -> Callable[[], nn.Module]:
        return lambda: _called(getattr(importlib.import_module(name), wanted))

    return Package(names, prepare, lambda wanted: _for_first_layer(prepare(wanted)()))


def _diffusers_names() -> list[str]:
    import diffusers
    from diffusers.models.modeling_utils import ModelMixin

    named = {each: getattr(diffusers, each, None) for each in dir(diffusers) if not each.startswith("_")}
    return [name for name, each in named.items() if inspect.isclass(each) and issubclass(each, ModelMixin)]


def _diffusers(name: str) -> Callable[[], nn.Module]:
    import diffusers

    return lambda: _called(getattr(diffusers, name))


def _diffusers_inputs(name: str) -> Any:
    """What a denoiser, a codec or a control takes, by the usual names of its arguments and of its configuration."""
    with torch.device("meta"):
        model = _diffusers(name)()
    config = dict(getattr(model, "config", {}))

    def first(*keys: str, otherwise: int) -> int:
        found = (config.get(key) for key in keys)
        return next((each[0] if isinstance(each, list | tuple) else each for each in found if each), otherwise)

    tokens, texts, side = 16, 8, min(first("sample_size", otherwise=32), SIZE)
    channels = first("in_channels", "audio_channels", otherwise=4)
    frames = (4,) if "3D" in name or config.get("sample_frames") or config.get("patch_size_t") else ()
    image = (1, channels, *frames, side, side)
    texts_of = ("cross_attention_dim", "joint_attention_dim", "caption_channels", "text_embed_dim", "text_dim")
    wide = first(*texts_of, "text_in_dim", "caption_projection_dim", otherwise=channels)
    conditions = first("conditioning_channels", "in_channels", otherwise=3)
    is_of_tokens = any(key in inspect.signature(model.forward).parameters for key in ("img_ids", "image_rotary_emb"))
    known: dict[str, Any] = {
        "sample": image,
        "hidden_states": (1, tokens, channels) if is_of_tokens else image,
        "encoder_hidden_states": (1, texts, wide),
        "encoder_attention_mask": (1, texts),
        "pooled_projections": (1, first("pooled_projection_dim", otherwise=768)),
        "img_ids": (tokens, 3),
        "txt_ids": (texts, 3),
        "controlnet_cond": (1, tokens, channels) if is_of_tokens else (1, conditions, 8 * side, 8 * side),
    }
    given: dict[str, Any] = {key: torch.zeros(shape) for key, shape in known.items()}
    given |= {"timestep": torch.ones(1), "controlnet_cond_scale": 1.0}
    given |= {"guidance": torch.ones(1)} if config.get("guidance_embeds", True) else {}
    given |= dict.fromkeys(("original_size", "target_size", "crop_coords"), torch.ones(1, 2))
    given["added_cond_kwargs"] = {"resolution": torch.ones(1, 2), "aspect_ratio": torch.ones(1, 1)}
    return {key: given[key] for key in inspect.signature(model.forward).parameters if key in given}


def _pytorchcv_names() -> list[str]:
    from pytorchcv.model_provider import _models

    return list(_models)


def _pytorchcv(name: str) -> Callable[[], nn.Module]:
    from pytorchcv.model_provider import get_model

    return lambda: get_model(name, pretrained=False)


def _pytorchcv_inputs(name: str) -> Any:
    model = _pytorchcv(name)()
    return torch.zeros(1, getattr(model, "in_channels", 3), *getattr(model, "in_size", (224, 224)))


ENCODERS = ("resnet18", "mobilenet_v2", "efficientnet-b0", "densenet121", "mit_b0", "vgg11_bn")


def _segmentation_names() -> list[str]:
    import segmentation_models_pytorch as segmentation

    return [f"{decoder}-on-{encoder}" for decoder in segmentation.MODEL_ARCHITECTURES_MAPPING for encoder in ENCODERS]


def _segmentation(name: str) -> Callable[[], nn.Module]:
    import segmentation_models_pytorch as segmentation

    decoder, _, encoder = name.partition("-on-")
    return lambda: segmentation.create_model(decoder, encoder_name=encoder, encoder_weights=None)


def _ultralytics_files() -> dict[str, Path]:
    import ultralytics

    folder = Path(ultralytics.__file__).parent / "cfg" / "models"
    return {path.stem: path for path in sorted(folder.rglob("*.yaml"))}


def _ultralytics(name: str) -> Callable[[], nn.Module]:
    from ultralytics.nn import tasks

    kinds = {
        "-cls": tasks.ClassificationModel,
        "-obb": tasks.OBBModel,
        "-pose": tasks.PoseModel,
        "-seg": tasks.SegmentationModel,
        "-world": tasks.WorldModel,
        "rtdetr": tasks.RTDETRDetectionModel,
    }
    kind = next((each for mark, each in kinds.items() if mark in name), tasks.DetectionModel)
    return lambda: kind(str(_ultralytics_files()[name]), verbose=False)


def _images(_: str) -> Any:
    return torch.zeros(1, 3, 256, 256)


_MONAI = _exported("monai.networks.nets")
_NO_NETWORKS = ("BertPreTrainedModel", "NetAdapter", "PatchMerging", "PatchMergingV2")
"""Parts and base classes that the room exports beside its networks."""


def _monai_names() -> list[str]:
    return [name for name in _MONAI.names() if name not in _NO_NETWORKS]


def _monai_inputs(name: str) -> Any:
    """What the networks of several inputs, or of an unusual one, take."""
    volume, images = torch.zeros(1, 1, SIZE, SIZE, SIZE), torch.zeros(1, 3, SIZE, SIZE)
    special: dict[str, Any] = {
        "AHNet": (torch.zeros(1, 1, 128, 128, SIZE),),
        "ControlNet": (images, torch.zeros(1, dtype=torch.long), torch.zeros(1, 1, 512, 512)),
        "NaViT": ([[torch.zeros(1, SIZE, SIZE, SIZE)]],),
        "SPADEAutoencoderKL": (torch.zeros(1, 1, SIZE, SIZE), images),
        "VoxelMorph": (volume, volume),
    }
    assert _MONAI.inputs is not None
    return special[name] if name in special else _MONAI.inputs(name)


_KNOWN: dict[str, Package] = {
    "diffusers": Package(_diffusers_names, _diffusers, _diffusers_inputs),
    "monai": Package(_monai_names, _MONAI.prepare, _monai_inputs),
    "pytorchcv": Package(_pytorchcv_names, _pytorchcv, _pytorchcv_inputs),
    "segmentation_models_pytorch": Package(_segmentation_names, _segmentation, _images),
    "ultralytics": Package(lambda: list(_ultralytics_files()), _ultralytics, _images),
}
