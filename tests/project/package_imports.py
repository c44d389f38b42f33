"""Every import that stands in the package's files: at the top, in functions and under `TYPE_CHECKING` alike."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx as nx

import autoinit

ROOT = Path(autoinit.__file__).parent


@dataclass(frozen=True)
class Import:
    """One name that a module imports.

    Attributes:
        importer: the module, `autoinit.plans.plan`.
        imported: the module that the name is, or is in.
        name: what is taken from it; empty for the module itself.
        function: the function that the import stands in; empty at the top of the file.
        type_only: whether it stands under `TYPE_CHECKING`.
    """

    importer: str
    imported: str
    name: str
    function: str = ""
    type_only: bool = False


@cache
def modules() -> dict[str, Path]:
    """The package's modules by name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the package's own modules, and of others, in its files."""
    return tuple(found for module, path in modules().items() for found in _of(module, path))


def graph() -> nx.DiGraph:
    """Modules, and which of them each imports by its own words."""
    found = nx.DiGraph()
    found.add_nodes_from(modules())
    found.add_edges_from(
        (each.importer, each.imported)
        for each in imports()
        if each.imported in modules() and each.imported != each.importer
    )
    return found


def _of(module: str, path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from _walked(tree, module, "", False)


def _walked(node: ast.AST, module: str, function: str, type_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(module, alias.name, "", function, type_only)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module}: imports are absolute"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            if whole in modules():
                yield Import(module, whole, "", function, type_only)
            else:
                yield Import(module, str(node.module), alias.name, function, type_only)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for child in node.body:
            yield from _walked(child, module, function, True)
        for child in node.orelse:
            yield from _walked(child, module, function, type_only)
    else:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        for child in ast.iter_child_nodes(node):
            yield from _walked(child, module, function, type_only)
