"""All modules of a model, in one flat loop: torch's own walk is a generator within a generator for each level."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def modules_once(root: nn.Module) -> Iterator[nn.Module]:
    """Each module once, as `root.modules()` gives them."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        module = waiting.pop()
        if id(module) not in seen:
            seen.add(id(module))
            yield module
            waiting += [each for each in reversed(module._modules.values()) if each is not None]


def modules_by_path(root: nn.Module, *, once: bool = False) -> dict[str, nn.Module]:
    """Every module under each of its paths, or under its first, as `root.named_modules` gives them."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        path, module = waiting.pop()
        if once and id(module) in seen:
            continue
        seen.add(id(module))
        found[path] = module
        if module._modules:
            prefix = f"{path}." if path else ""
            inner = reversed(module._modules.items())
            waiting += [(prefix + name, each) for name, each in inner if each is not None]
    return found
