"""Models by name from timm, torchvision and transformers: with random weights, nothing is downloaded."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from autoinit.errors import LoadError
from autoinit.loading._devices import Device
from autoinit.loading._wording import did_you_mean, one_line


def timm(name: str, arguments: Mapping[str, Any], trust: bool, device: Device) -> nn.Module:  # noqa: ARG001 - alike
    """`timm.create_model(name, pretrained=False, **arguments)`."""
    library = _import("timm", "timm")
    if not library.is_model(name.partition(".")[0]):
        raise LoadError(f"timm has no model {name!r}{did_you_mean(name, library.list_models())}")
    return _built(f"timm:{name}", lambda: library.create_model(name, pretrained=False, **arguments), device)


def torchvision(name: str, arguments: Mapping[str, Any], trust: bool, device: Device) -> nn.Module:  # noqa: ARG001
    """`torchvision.models.get_model(name, weights=None, **arguments)`."""
    models = _import("torchvision.models", "torchvision")
    known = models.list_models()
    if name.lower() not in known:
        raise LoadError(f"torchvision has no model {name!r}{did_you_mean(name.lower(), known)}")
    extra = {"weights_backbone": None} if "detection" in name or "segmentation" in name else {}
    return _built(f"torchvision:{name}", lambda: models.get_model(name, weights=None, **{**extra, **arguments}), device)


def transformers(name: str, arguments: Mapping[str, Any], trust: bool, device: Device) -> nn.Module:
    """The model of a configuration: a directory with a `config.json`, such a file, or a model type (`bert`).

    The class is the first of the configuration's `architectures`, or the bare model where it names none. Its tensors
    have the dtype that the configuration names, as transformers reads it; `dtype` among the arguments is another.
    """
    library = _import("transformers", "transformers")

    def build() -> Any:
        if os.path.exists(name):
            config = library.AutoConfig.from_pretrained(name, trust_remote_code=trust, **arguments)
        else:
            config = library.AutoConfig.for_model(name, **arguments)
        named = (config.architectures or [None])[0]
        if named is not None and hasattr(library, named):
            return getattr(library, named)._from_config(config)
        return library.AutoModel.from_config(config, trust_remote_code=trust)

    if not os.path.exists(name):
        known = list(library.CONFIG_MAPPING.keys())
        if name not in known:
            near = did_you_mean(name, known)
            raise LoadError(
                f"hf:{name} is neither a directory, a configuration file nor a model type of transformers{near}"
            )
    return _built(f"hf:{name}", build, device)


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise LoadError(f"importing {package} failed: {one_line(error)}") from error
        raise LoadError(f"{package} is not installed: pip install {package}") from error
    except (ImportError, RuntimeError, AttributeError) as error:
        raise LoadError(f"importing {package} failed: {one_line(error)}") from error


def _built(spec: str, build: Callable[[], Any], device: Device) -> nn.Module:
    try:
        with device():
            model = build()
    except Exception as error:
        raise LoadError(f"building {spec} failed: {one_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise LoadError(f"{spec} gave a {type(model).__name__}, not a torch.nn.Module")
    return model
