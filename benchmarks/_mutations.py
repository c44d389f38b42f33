"""Changes of one operator, comparison, condition or constant of a file, as an abstract syntax tree."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SWAPPED: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
    ast.LShift: (ast.RShift,), ast.RShift: (ast.LShift,),
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,), ast.And: (ast.Or,), ast.Or: (ast.And,),
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Change:
    """One change. place: of the changed node in the order of `ast.walk`. before, after: its source.

    function: the dotted name of what it stands in, empty for the module itself. text: the line it begins in.
    """

    file: str
    line: int
    text: str
    function: str
    place: int
    before: str
    after: str
    variant: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function or 'module'}: {self.before}  ->  {self.after}"

    @property
    def key(self) -> tuple[str, ...]:
        """What stays when lines move."""
        return self.file, self.function, self.text, self.before, self.after


def changes(path: Path, root: Path) -> Iterator[Change]:
    """Every change of a file, but in annotations and in what only a type checker reads."""
    source = path.read_text()
    tree, lines = ast.parse(source), source.splitlines()
    left_out = set(_left_out(tree))
    functions = _functions(tree)
    for place, node in enumerate(ast.walk(tree)):
        if node in left_out:
            continue
        for variant, changed in enumerate(_variants(node)):
            before, after = ast.unparse(node), ast.unparse(changed)
            line: int = node.lineno  # type: ignore[attr-defined]  # every node that has variants has one
            where = (str(path.relative_to(root)), line, lines[line - 1].strip(), functions.get(node, ""))
            yield Change(*where, place, *_shown(before, after), variant)


def changed(path: Path, change: Change) -> ast.Module:
    """The tree of the file with one change."""
    tree = ast.parse(path.read_text())
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    node = list(ast.walk(tree))[change.place]
    new = list(_variants(node))[change.variant]
    for name, value in ast.iter_fields(parents[node]):
        if value is node:
            setattr(parents[node], name, new)
        elif isinstance(value, list) and node in value:
            value[value.index(node)] = new
    return ast.fix_missing_locations(tree)


def _variants(node: ast.AST) -> Iterator[ast.expr | ast.AugAssign]:
    """The node in each changed form."""
    match node:
        case ast.BinOp() | ast.AugAssign():
            for op in SWAPPED.get(type(node.op), ()):
                yield _with(node, op=op())
        case ast.BoolOp():
            yield _with(node, op=SWAPPED[type(node.op)][0]())
            for left_out in range(len(node.values)):
                values = [each for number, each in enumerate(node.values) if number != left_out]
                yield _with(node, values=values) if len(values) > 1 else _located(values[0], node)
        case ast.Compare():
            for number, op in enumerate(node.ops):
                for other in SWAPPED.get(type(op), ()):
                    yield _with(node, ops=[*node.ops[:number], other(), *node.ops[number + 1 :]])
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield _located(node.operand, node)
        case ast.IfExp():
            yield _with(node, body=node.orelse, orelse=node.body)
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield _with(node, func=ast.copy_location(ast.Name(NAMES[name], ast.Load()), node.func))
        case ast.Constant(value=bool()):
            yield _with(node, value=not node.value)
        case ast.Constant(value=int()):
            yield _with(node, value=node.value + 1)
            yield _with(node, value=node.value - 1)
        case ast.Constant(value=float()):
            small = 0 < abs(node.value) < 0.1
            yield _with(node, value=node.value * 100 if small else node.value + 1)
        case _:
            return


def _with(node: ast.AST, **fields: object) -> ast.expr:
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    assert isinstance(made, ast.expr | ast.AugAssign)
    return made  # type: ignore[return-value]


def _located(node: ast.expr, at: ast.expr) -> ast.expr:
    return ast.copy_location(copy.copy(node), at)


def _left_out(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        hidden: list[ast.AST | None] = []
        match node:
            case ast.FunctionDef():
                hidden = [node.returns]
            case ast.arg() | ast.AnnAssign():
                hidden = [node.annotation]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                hidden = [node]
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                hidden = [node]
            case ast.Subscript(value=ast.Name(id=name)) if name in ("Literal", "Callable", "Mapping", "Sequence"):
                hidden = [node]
        for each in hidden:
            yield from ast.walk(each) if each is not None else ()


def _functions(tree: ast.Module) -> dict[ast.AST, str]:
    """The dotted name of the function or class that each node stands in."""
    found: dict[ast.AST, str] = {}

    def visit(node: ast.AST, name: str) -> None:
        found[node] = name
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            name = f"{name}.{node.name}".lstrip(".")
        for child in ast.iter_child_nodes(node):
            visit(child, name)

    visit(tree, "")
    return found


def _shown(before: str, after: str, most: int = 160) -> tuple[str, str]:
    """Both in one line, cut where they are long: around where they differ."""
    before, after = " ".join(before.split()), " ".join(after.split())
    if max(len(before), len(after)) <= most:
        return before, after
    same = next((number for number, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]), 0)
    start = max(0, same - most // 2)
    return before[start : start + most], after[start : start + most]
