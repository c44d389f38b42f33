"""The architectures of model libraries, by name, and how to construct each without weights."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import _torchvision
import torch
from _models import without_filling
from _packages import package
from _shrunken import shrunken
from torch import nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")

Library = dict[str, Callable[..., Any]]


class NotConstructibleError(Exception):
    """The library itself cannot make the architecture from its defaults."""


def names(library: str) -> list[str]:
    """Every architecture of a library, sorted."""
    found: list[str] = sorted(_entry(library)["names"]())
    return found


def construct(library: str, name: str) -> tuple[nn.Module, str]:
    """An architecture on the meta device, and the device that it was made on.

    Some cannot be made on meta, since their constructors read numbers out of tensors: these are made on the CPU, their
    weights left as they are in memory, and moved.

    Raises:
        NotConstructibleError: the library cannot make it at all.
    """
    prepared = _entry(library)["prepare"](name)
    try:
        with torch.device("meta"):
            return prepared(), "meta"
    except Exception as error:  # noqa: BLE001 - what a constructor may raise on meta is not known
        on_meta = _told(error)
    try:
        with without_filling():
            return prepared().to("meta"), "cpu"
    except Exception as error:
        on_cpu = _told(error)
        both = on_cpu if on_cpu == on_meta else f"on meta {on_meta}; on the CPU {on_cpu}"
        raise NotConstructibleError(both) from error


def shrunk(library: str, name: str) -> tuple[nn.Module, str]:
    """A small version of one of transformers' architectures on the CPU, with weights.

    Raises:
        NotConstructibleError: what is left of the configuration does not go together.
    """
    assert library == "transformers"
    try:
        from transformers import AutoModel
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        return AutoModel.from_config(shrunken(CONFIG_MAPPING[name]())), "cpu"
    except Exception as error:
        raise NotConstructibleError(_told(error)) from error


def shipped(library: str, name: str) -> nn.Module:
    """An architecture on the CPU, with the weights that its constructor draws.

    Raises:
        NotConstructibleError: the library cannot make it.
    """
    prepared = _entry(library)["prepare"](name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model: nn.Module = prepared()
    except Exception as error:
        raise NotConstructibleError(_told(error)) from error
    return model


def inputs(library: str, name: str) -> Any:
    """Inputs of an architecture, for when none can be guessed; None where the benchmark knows none."""
    made = _entry(library).get("inputs")
    return made(name) if made is not None else None


def _entry(library: str) -> Library:
    if library in _LIBRARIES:
        return _LIBRARIES[library]
    found = package(library)
    entry: Library = {"names": found.names, "prepare": found.prepare}
    return entry if found.inputs is None else {**entry, "inputs": found.inputs}


def classifies(library: str, name: str) -> bool:
    """Whether an architecture classifies images; of torchvision's alone others are known by where they stand."""
    if library != "torchvision":
        return True
    import torchvision

    holder: str = torchvision.models.get_model_builder(name).__module__
    return holder.count(".") == 2


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"


def _timm_names() -> list[str]:
    import timm

    return timm.list_models()


def _timm(name: str) -> Callable[[], nn.Module]:
    import timm

    return lambda: timm.create_model(name, pretrained=False)


def _torchvision_names() -> list[str]:
    assert _torchvision.torchvision_ops
    import torchvision

    return torchvision.models.list_models()


def _torchvision_model(name: str) -> Callable[[], nn.Module]:
    import inspect

    import torchvision

    taken = inspect.signature(torchvision.models.get_model_builder(name)).parameters
    # Weights of the backbone would be downloaded; these two warn unless told whether to initialise.
    options: dict[str, Any] = {"weights_backbone": None} if "weights_backbone" in taken else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True
    return lambda: torchvision.models.get_model(name, weights=None, **options)


def _transformers_names() -> list[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return list(CONFIG_MAPPING.keys())


def _transformers(name: str) -> Callable[[], nn.Module]:
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return lambda: AutoModel.from_config(CONFIG_MAPPING[name]())


_LIBRARIES: dict[str, Library] = {
    "timm": {"names": _timm_names, "prepare": _timm},
    "torchvision": {"names": _torchvision_names, "prepare": _torchvision_model},
    "transformers": {"names": _transformers_names, "prepare": _transformers},
}
LIBRARIES = tuple(_LIBRARIES)
