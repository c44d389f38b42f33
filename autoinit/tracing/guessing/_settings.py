"""What a model says of itself: its configuration, by the names that attributes usually have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import nn

_HOLDERS = ("config", "cfg", "args", "hparams")
_DEPTH = 3  # configurations in configurations


class Settings:
    """A model's configuration and the configurations in it, each with the path that leads to it."""

    def __init__(self, model: nn.Module) -> None:
        held = [getattr(model, name, None) for name in _HOLDERS]
        self.parts: list[tuple[str, Any]] = []
        for root in held:
            if _is_configuration(root):
                self.parts += _with_parts("", root, _DEPTH)

    def value(self, *names: str, near: Sequence[str] = ()) -> Any:
        """The first of these attributes that is set: of parts whose path has one of the words, then of any part."""
        close = [each for each in self.parts if any(word in each[0] for word in near)]
        for parts in (close, self.parts):
            for name in names:
                for _, part in parts:
                    found = _attribute(part, name)
                    if found is not None:
                        return found
        return None

    def number(self, *names: str, near: Sequence[str] = ()) -> int | None:
        """As `value`, for a positive whole number; the first of a sequence of them."""
        numbers = self.numbers(*names, near=near)
        return numbers[0] if numbers else None

    def numbers(self, *names: str, near: Sequence[str] = ()) -> tuple[int, ...]:
        """As `value`, for a sequence of positive whole numbers, or a single one."""
        for name in names:
            found = self.value(name, near=near)
            each = tuple(found.values()) if isinstance(found, Mapping) else found
            each = tuple(each) if isinstance(each, (list, tuple)) else (each,)
            if each and all(isinstance(one, int) and not isinstance(one, bool) and one > 0 for one in each):
                return each
        return ()

    def named(self, *endings: str) -> Iterator[tuple[str, int]]:
        """Whole numbers whose names end so, such as the ids of special tokens."""
        for _, part in self.parts:
            for name, value in _items(part):
                if name.endswith(endings) and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                    yield name, value


def _is_configuration(value: Any) -> bool:
    return isinstance(value, Mapping) or (hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)))


def _items(part: Any) -> list[tuple[str, Any]]:
    return [(str(name), value) for name, value in (part if isinstance(part, Mapping) else vars(part)).items()]


def _attribute(part: Any, name: str) -> Any:
    return part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)


def _with_parts(path: str, part: Any, depth: int) -> list[tuple[str, Any]]:
    found = [(path, part)]
    for name, value in _items(part) if depth else []:
        if name.endswith(("config", "cfg")) and _is_configuration(value):
            found += _with_parts(f"{path}.{name}", value, depth - 1)
    return found
