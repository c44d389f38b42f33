"""The mode that sees every torch function of its thread, and notes what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from autoinit.provenance import _calls as calls
from autoinit.provenance._ledger import Ledger, WriteRecord, address
from autoinit.provenance._regions import StorageRegion
from autoinit.provenance._stack import Site, called_by_init, site
from autoinit.provenance.origins import Origin

_IS_META = torch.Tensor.is_meta


class Watcher(TorchFunctionMode):
    """Notes in a ledger what torch functions write while it is active."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger

    def __torch_function__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the function, and note what it wrote."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "__get__":
            if result is True and getattr(func, "__self__", None) is _IS_META:
                self._left_alone(args[0])
        elif name == "__setitem__":
            with torch._C.DisableTorchFunction():
                self._assigned(*args)
        elif calls.writes(name):
            with torch._C.DisableTorchFunction():
                self._wrote(func, name, args, kwargs)
        elif name == "module_load":
            with torch._C.DisableTorchFunction():
                self._replace(result, site(result), "copy_", {})
        elif isinstance(result, (torch.Tensor, tuple, list)):
            with torch._C.DisableTorchFunction():
                self._made(func, name, args, kwargs, result)
        return result

    def _left_alone(self, tensor: torch.Tensor) -> None:
        """An initialiser asks whether a tensor is on the meta device, and will leave it as it is if so."""
        with torch._C.DisableTorchFunction():
            if called_by_init(tensor):
                by = site(tensor)
                self._replace(tensor, by, by.function, by.arguments)

    def _wrote(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A function in place."""
        first = args[0] if args else next(iter(kwargs.values()), None)
        if isinstance(first, torch.Tensor):
            self._written(first, func, name, args[1:], kwargs)
            return
        plain = name.removeprefix("_foreach_")
        for position, target in enumerate(calls.tensors_in(first)):
            own = tuple(calls.item(value, position) for value in args[1:])
            self._written(target, func, plain, own, kwargs)

    def _written(
        self, target: torch.Tensor, func: Any, name: str, operands: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        by = site(target)
        if name == "copy_":
            self._copied(target, operands[0] if operands else kwargs.get("src"), by)
        elif name in calls.REPLACING:
            self._replace(target, by, calls.full_name(func), calls.arguments(name, operands, kwargs))
        else:
            self._change(target, by, name, operands, kwargs)

    def _assigned(self, target: torch.Tensor, index: Any, value: Any) -> None:
        """`target[index] = value`."""
        by = site(target)
        if not _is_basic(index):
            name = "copy_" if calls.scalar(value) is None else "fill_"
            self._change(target, by, f"some elements {name}", (value,), {})
            return
        part = target[index]
        if isinstance(value, torch.Tensor) and value.dim():
            self._copied(part, value, by)
        else:
            number = calls.scalar(value)
            self._replace(part, by, "Tensor.fill_", {} if number is None else {"value": number})

    def _copied(self, target: torch.Tensor, values: Any, by: Site) -> None:
        """The values of another tensor were written to the target."""
        origin = None
        if isinstance(values, torch.Tensor):
            if address(values) == address(target) and StorageRegion.of(values) == StorageRegion.of(target):
                return
            origin = self.ledger.origin(values)
        if origin is not None and not by.function:
            self.ledger.note(target, WriteRecord(StorageRegion.of(target), origin))
        else:
            self._replace(target, by, "copy_", {})

    def _replace(self, target: torch.Tensor, by: Site, function: str, arguments: Mapping[str, Any]) -> None:
        """All values of the target are new: from the initialiser, if one is at work, else from the call itself."""
        if by.function:
            function, arguments = by.function, by.arguments
        origin = Origin(function, arguments, by.source, by.default)
        self.ledger.note(target, WriteRecord(StorageRegion.of(target), origin, token=by.token))

    def _change(
        self, target: torch.Tensor, by: Site, name: str, operands: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        text, factor = calls.described(name, operands, kwargs), calls.factor(name, operands, kwargs)
        self.ledger.note(target, WriteRecord(StorageRegion.of(target), None, text, factor, by.token))

    def _made(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """A function that returns tensors: new ones, or views of its operands."""
        if kwargs.get("out") is not None:
            for target in calls.tensors_in(kwargs["out"]):
                self._replace(target, site(target), calls.full_name(func), calls.arguments(name, args, kwargs))
            return
        if name == "__deepcopy__":
            args = args[:1]  # the copy itself is in the memo that follows
        operands = [*calls.tensors_in(args), *calls.tensors_in(kwargs)]
        viewed = {address(operand) for operand in operands}
        for made in calls.tensors_in(result):
            storage = address(made)
            if storage is None or storage in viewed or self.ledger.knows(storage):
                continue
            if operands and name in calls.KEEPING:
                kept = self.ledger.origin(operands[0])
                if kept is None:
                    continue
                if name in calls.REPEATING:
                    kept = kept.changed(calls.described(name, args[1:], kwargs))
            else:
                kept = self._derived(name, args, kwargs, operands, made)
            if kept is not None:
                self.ledger.note(made, WriteRecord(StorageRegion.of(made), kept))
            else:
                self._replace(made, site(made), calls.full_name(func), calls.arguments(name, args, kwargs))

    def _derived(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        operands: list[torch.Tensor],
        made: torch.Tensor,
    ) -> Origin | None:
        """The origin of values that were computed element by element from one tensor with a recorded origin."""
        if name.strip("_") not in calls.ELEMENTWISE:
            return None
        known = [(operand, self.ledger.origin(operand)) for operand in operands if operand.dim()]
        bases = [(operand, origin) for operand, origin in known if origin is not None]
        if len(bases) != 1 or bases[0][0].size() != made.size():
            return None
        base, origin = bases[0]
        others = tuple(value for value in args if value is not base)
        named = {key: value for key, value in kwargs.items() if value is not base}
        first = (args[0] if args else kwargs.get("input")) is base
        scaled = calls.factor(name, others, named) if first or name.strip("_") in ("mul", "multiply") else 1.0
        return None if origin is None else origin.changed(calls.described(name, others, named), scaled)


def _is_basic(index: Any) -> bool:
    """Whether an index makes a view."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(
        part is None or part is Ellipsis or isinstance(part, slice) or (hasattr(part, "__index__") and _is_number(part))
        for part in parts
    )


def _is_number(part: Any) -> bool:
    return not isinstance(part, (bool, torch.Tensor)) and getattr(part, "ndim", 0) == 0
