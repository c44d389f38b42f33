"""Names of operations in the package: what two rooms ask of an operation is a trait, and no name is misspelt.

Read from the syntax of every file outside `ops`.
"""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

import autoinit
from autoinit.ops import REGISTRY, Role, Trait, recurrent_gates

PACKAGE = Path(autoinit.__file__).parent
MADE_BY_TRACING = {"input", "output", "parameter", "buffer"}
"""Canonical names of what is no call."""
NAMES = {*REGISTRY.specs, *MADE_BY_TRACING}
MANY = 3

KINDS_OF_FX = {"placeholder", "get_attr", "call_function", "call_method", "call_module"}
"""What `op` of a torch.fx node may be."""


@functools.cache
def trees() -> dict[str, ast.Module]:
    files = sorted(PACKAGE.rglob("*.py"))
    return {
        file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text(encoding="utf-8"))
        for file in files
        if file.relative_to(PACKAGE).parts[0] != "ops"
    }


def room(path: str) -> str:
    """`signal` of `signal/predicting/fields.py`; a module at the top is a room of its own."""
    return path.partition("/")[0]


def texts(node: ast.AST) -> tuple[str, ...]:
    """The strings of a literal collection (`{"a", "b"}`, `frozenset({...})`, the keys of a dict); none of others."""
    if isinstance(node, ast.Call) and len(node.args) == 1:
        return texts(node.args[0])
    if isinstance(node, ast.Dict):
        elements: list[ast.expr | None] = list(node.keys)
    elif isinstance(node, (ast.Set, ast.Tuple, ast.List)):
        elements = list(node.elts)
    else:
        return ()
    values = [each.value for each in elements if isinstance(each, ast.Constant)]
    strings = tuple(value for value in values if isinstance(value, str))
    return strings if len(strings) == len(elements) else ()


def collections_of_names() -> Iterator[tuple[str, frozenset[str]]]:
    """(room, names) of each literal collection of three names of operations or more."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            found = frozenset(texts(node))
            if len(found) >= MANY and found <= NAMES:
                yield room(path), found


def asked_names() -> Iterator[tuple[str, str]]:
    """(place, name) of each name that an operation's name is compared with, in a literal or a constant of the file."""
    for path, tree in trees().items():
        constants = {
            target.id: texts(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and ast.unparse(node.left).endswith((".op", "spec.name")):
                for other in node.comparators:
                    names = constants.get(other.id, ()) if isinstance(other, ast.Name) else texts(other)
                    if isinstance(other, ast.Constant) and isinstance(other.value, str):
                        names = (other.value,)
                    yield from ((f"{path}:{node.lineno}", name) for name in names)


def test_no_set_of_names_stands_in_two_rooms():
    found = list(collections_of_names())
    shared = [
        (one, other, sorted(names & others))
        for (one, names), (other, others) in itertools.combinations(found, 2)
        if one != other and len(names & others) >= MANY
    ]
    assert shared == []


def test_the_syntax_is_read():
    """Sets and comparisons that are known to be there: guards of the two tests beside."""
    assert ("resolving", frozenset({"getitem", "gather", "take_along_dim"})) in set(collections_of_names())
    names = {name for _, name in asked_names()}
    assert {"multi_head_attention", "cat", "take_along_dim", "output"} <= names


def test_every_name_asked_for_is_in_the_table():
    misspelt = [(place, name) for place, name in asked_names() if name not in NAMES | KINDS_OF_FX]
    assert misspelt == []


@pytest.mark.parametrize("trait", list(Trait), ids=str)
def test_every_trait_holds_of_some_operation_and_is_asked_for(trait: Trait):
    having = {name for name, spec in REGISTRY.specs.items() if trait in spec.traits}
    assert having
    asking = {path for path, tree in trees().items() if f"Trait.{trait.name}" in ast.unparse(tree)}
    assert asking


def test_operands_that_only_steer():
    """A mask, boxes, and what a loss compares with or weighs classes by, as torch's documents name them."""
    found = {name: spec.steered_by for name, spec in REGISTRY.specs.items() if spec.steered_by}
    assert found == {
        "where": ("condition",),
        "masked_fill": ("mask",),
        "softmax_loss": ("target", "weight"),
        "roi_align": ("boxes",),
    }


def test_what_joins_chooses_and_ranks():
    found = {
        trait: {name for name, spec in REGISTRY.specs.items() if trait in spec.traits}
        for trait in (Trait.JOINING, Trait.CHOOSING, Trait.RANKING)
    }
    assert found == {
        Trait.JOINING: {"cat", "stack", "group", "block_diag"},
        Trait.CHOOSING: {
            "where",
            "masked_fill",
            "setitem",
            "maximum",
            "minimum",
            "fmax",
            "fmin",
            "logaddexp",
            "logaddexp2",
            "masked_scatter",
        },
        Trait.RANKING: {"index", "comparison", "rounding"},
    }


def test_traits_agree_with_roles():
    """What is neutral, joins or chooses passes a signal on; a table's rows are a source; norms are norms."""
    roles = {
        Trait.NEUTRAL: {Role.TRANSPARENT},
        Trait.JOINING: {Role.TRANSPARENT},
        Trait.CHOOSING: {Role.TRANSPARENT},
        Trait.WINDOWED: {Role.TRANSPARENT},
        Trait.RANKING: {Role.SINK},
        Trait.SUMMING: {Role.TRANSPARENT},
        Trait.STANDARDISING: {Role.NORM},
        Trait.ADDING: {Role.ADD},
        Trait.SCALING: {Role.PRODUCT},
        Trait.LOOKUP: {Role.SOURCE},
        Trait.RECURRENT: {Role.WEIGHT},
        Trait.CHANNELWISE: {Role.NORM},
        Trait.OVER_SAMPLES: {Role.NORM},
    }
    found = {trait: {spec.role for spec in REGISTRY.specs.values() if trait in spec.traits} for trait in Trait if trait}
    assert found == roles


@pytest.mark.parametrize(
    ("name", "gates"),
    [("lstm", 4), ("lstm_cell", 4), ("gru", 3), ("gru_cell", 3), ("rnn", 1), ("rnn_relu_cell", 1), ("linear", 0)],
)
def test_gates_of_recurrent_operations(name: str, gates: int):
    """LSTM: input, forget, cell, output. GRU: reset, update, new (torch.nn's order of rows)."""
    assert recurrent_gates(name) == gates
    assert recurrent_gates("no operation") == 0
