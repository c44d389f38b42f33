"""ModelView: a model as its user knows it, made once where a public function is entered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar, Union

import torch
from torch import nn

from autoinit.errors import ArgumentError, PlanError
from autoinit.models._entering import require_no_fake_mode, require_python, require_readable, require_tree
from autoinit.models.alone import NEEDS_CODE
from autoinit.models.storage import WeightStorage, owner_and_weight, storage_by_names, storage_in_module
from autoinit.models.walking import modules_by_path
from autoinit.models.wrappers import inner_module, user_class, wrapped_as
from autoinit.tensors.sharding import is_sharded, stand_in

if TYPE_CHECKING:
    from torch.export import ExportedProgram  # importing it takes a second

Model: TypeAlias = Union[nn.Module, "ExportedProgram", "ExportedLike"]
"""What is planned, checked and written: a module, a program of torch.export, or what was read of a program's file."""
Held = TypeVar("Held", bound=torch.Tensor)


class ExportedLike(Protocol):
    """What is asked of a model without modules: its tensors by name."""

    @property
    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Parameters (`nn.Parameter`) and buffers; a tied one under each of its names."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter once, in the model's order."""


@dataclass(frozen=True, eq=False)
class ModelView:
    """A model without its wrappers, and its tensors by the names that the user knows.

    It shares the model's tensors and reads each fact once, when it is first asked for: it holds as long as no module
    or parameter is put in or taken out. Values that are written in place show.

    In place of tensors that are parted among processes it shows plain ones of the global shapes (see
    `tensors.sharding.stand_in`); the model's own are in `held`.

    Attributes:
        root: the model inside all wrappers.
        gathered: whether these have values, brought here from all processes: each must look at the model then.
    """

    root: nn.Module | ExportedLike
    gathered: bool = False
    _storages: dict[str, WeightStorage] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, model: Model, *, gathered: bool = False) -> ModelView:
        """The view of a model, wrapped or not.

        Args:
            model: the model.
            gathered: see the attribute.

        Raises:
            ArgumentError: it is no model.
            PlanError: a module holds itself, a tensor is fake, or a parameter is sparse.
            TraceError: it holds TorchScript modules.
        """
        if isinstance(model, type) or not hasattr(model, "named_parameters"):
            raise ArgumentError(
                f"model is a {type(model).__name__}: expected a torch.nn.Module or an ExportedProgram"
                + (
                    f"; of a state dict only `report` and `check` speak: {NEEDS_CODE}"
                    if isinstance(model, Mapping)
                    else ""
                )
            )
        require_no_fake_mode()
        if isinstance(model, nn.Module):
            require_tree(model)
            require_python(model)
            model = inner_module(model)
        if isinstance(model, nn.Module) or isinstance(getattr(model, "state_dict", None), Mapping):
            require_readable(dict((*cls(model)._all_parameters, *cls(model)._all_buffers)))
        return cls(model, gathered)

    @property
    def has_modules(self) -> bool:
        """Whether the model can be run and has modules: an exported program cannot, and has none."""
        return isinstance(self.root, nn.Module)

    @property
    def module(self) -> nn.Module:
        """The model as the module that it is. Ask `has_modules` first."""
        assert isinstance(self.root, nn.Module), f"a {self.class_name} has no modules"
        return self.root

    @property
    def class_name(self) -> str:
        """The name of the model's class."""
        return user_class(self.root).__name__ if isinstance(self.root, nn.Module) else type(self.root).__name__

    @cached_property
    def sharded(self) -> bool:
        """Whether a parameter is parted among processes."""
        return any(map(is_sharded, self.held.values()))

    @cached_property
    def held(self) -> Mapping[str, nn.Parameter]:
        """The model's own parameters, each once, in order, by its first name."""
        return _once(self._all_parameters)

    @cached_property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Every parameter once, in order, by its first name, as one process would hold it."""
        return {name: self._as_one(parameter) for name, parameter in self.held.items()}

    @cached_property
    def first_names(self) -> Mapping[str, str]:
        """For each name of a parameter its first: another one where it is tied or its module is shared."""
        first = {id(parameter): name for name, parameter in self.held.items()}
        return {name: first[id(parameter)] for name, parameter in self._all_parameters}

    @cached_property
    def buffers(self) -> Mapping[str, torch.Tensor]:
        """Every buffer once, in order, by its first name, as one process would hold it."""
        return {name: self._as_one(buffer) for name, buffer in _once(self._all_buffers).items()}

    @cached_property
    def tensors(self) -> Mapping[str, torch.Tensor]:
        """Every parameter and buffer under each of its names."""
        parameters = {name: self.parameters[self.first_names[name]] for name, _ in self._all_parameters}
        return {**parameters, **{name: self._as_one(buffer) for name, buffer in self._all_buffers}}

    def _as_one(self, tensor: Held) -> Held:
        made = stand_in(tensor, gathered=self.gathered)
        assert isinstance(made, type(tensor)) or is_sharded(tensor)
        return made  # type: ignore[return-value]  # a parameter's is a parameter

    def submodule(self, path: str) -> nn.Module:
        """The module at a path, wrappers seen through.

        Raises:
            PlanError: the model has no such module.
        """
        found = self._by_prefix.get(f"{path}." if path else "") if isinstance(self.root, nn.Module) else None
        if found is None:
            raise PlanError(f"{path}: {self.class_name} has no such module. Plan the model that is written.")
        return found

    @cached_property
    def _by_prefix(self) -> dict[str, nn.Module]:
        return dict(self.modules)

    def storage(self, name: str) -> WeightStorage:
        """How the model stores a weight.

        Args:
            name: any name of the weight (`conv.weight`) or of a parameter that stores it (`conv.weight_v`,
                `conv.parametrizations.weight.original0`). In an exported program names alone tell.

        Raises:
            PlanError: the model has no such weight.
        """
        if name not in self._storages:
            self._storages[name] = self._storage(name)
        return self._storages[name]

    def _storage(self, name: str) -> WeightStorage:
        first = self.first_names
        owner, leaf = owner_and_weight(first.get(name, name))
        if isinstance(self.root, nn.Module):
            module = self.submodule(owner)
            found, holder = storage_in_module(module, owner, leaf), user_class(module).__name__
        else:
            found, holder = storage_by_names(self.parameters.keys(), owner, leaf), self.class_name
        if found is None:
            raise PlanError(f"{name}: {holder} has no parameter {leaf!r}. Plan the model that is written.")
        if found.written == (name,) and first.get(name, name) == name:
            return found
        return replace(
            found,
            param=first.get(found.param, found.param),
            magnitude=first.get(found.magnitude, found.magnitude),
            others=tuple(first.get(each, each) for each in found.others),
        )

    @cached_property
    def modules(self) -> list[tuple[str, nn.Module]]:
        """(prefix of its tensors' names, module) of every module under each of its paths, wrappers left out."""
        prefixes: dict[str, str] = {}
        wrapped: dict[str, str] = {}
        found = []
        for path, module in modules_by_path(self.module).items():
            parent, _, segment = path.rpartition(".")
            prefix = ""
            if path:
                prefix = prefixes[parent] + ("" if segment == wrapped[parent] else f"{segment}.")
            prefixes[path], wrapped[path] = prefix, wrapped_as(module)
            found.append((prefix, module))
        return found

    @cached_property
    def _all_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """(name, parameter), each parameter under all its names, in order."""
        if not isinstance(self.root, nn.Module):
            first = list(self.root.named_parameters())
            tied = [(n, each) for n, each in self.root.state_dict.items() if isinstance(each, nn.Parameter)]
            return list(dict((*first, *tied)).items())
        return [
            (prefix + leaf, parameter)
            for prefix, module in self.modules
            for leaf, parameter in module._parameters.items()
            if parameter is not None
        ]

    @cached_property
    def _all_buffers(self) -> list[tuple[str, torch.Tensor]]:
        """(name, buffer), each buffer under all its names, in order."""
        if not isinstance(self.root, nn.Module):
            return [(n, each) for n, each in self.root.state_dict.items() if not isinstance(each, nn.Parameter)]
        return [
            (prefix + leaf, buffer)
            for prefix, module in self.modules
            for leaf, buffer in module._buffers.items()
            if buffer is not None
        ]


def _once(named: Iterable[tuple[str, Held]]) -> dict[str, Held]:
    """Each tensor by its first name."""
    found: dict[int, tuple[str, Held]] = {}
    for name, tensor in named:
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())
