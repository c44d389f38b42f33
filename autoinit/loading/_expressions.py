"""Expressions inside exported programs: which are arithmetic on sizes and nothing more."""

from __future__ import annotations

import ast
import re

# fmt: off
_FUNCTIONS = frozenset((
    "Abs", "Add", "And", "BitwiseFn_bitwise_and", "BitwiseFn_bitwise_or", "CeilToInt", "CleanDiv", "Eq",
    "Equality", "FloatPow", "FloatTrueDiv", "FloorDiv", "FloorToInt", "Ge", "GreaterThan", "Gt", "Identity",
    "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "LShift", "Le", "LessThan", "Lt", "Max", "Min", "Mod",
    "ModularIndexing", "Mul", "Ne", "Not", "OpaqueUnaryFn_sqrt", "Or", "Piecewise", "Pow", "PowByNatural",
    "PythonMod", "RShift", "RoundToInt", "StrictGreaterThan", "StrictLessThan", "ToFloat", "TruncToFloat",
    "TruncToInt", "Unequality", "Where", "ceiling", "floor", "log", "exp", "sqrt",
))
# fmt: on
_NUMBERS = frozenset(("Float", "Integer", "Rational"))
_SYMBOL = re.compile(r"[A-Za-z]+\d+")
_WORDS = frozenset(("true", "false", "oo", "int_oo", "pi", "E"))
_NUMERAL = re.compile(r"[-+\d.eE]+")
_GUARD_METHODS = frozenset(("dim", "numel", "size", "storage_offset", "stride"))
_GUARD_ATTRIBUTES = frozenset(("device", "dtype", "ndim", "shape", "requires_grad"))
_GUARD_NAMES = frozenset(("L", "args", "kwargs", "None", "True", "False"))
_GUARD_FUNCTIONS = frozenset(("len", "max", "min", "abs", "int", "bool", "float", "isinstance"))
_ARITHMETIC = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Tuple, ast.List,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context, ast.keyword,
)  # fmt: skip


def is_size(text: str) -> bool:
    """Whether a symbolic size, as sympy writes it, is arithmetic on integers and size symbols."""
    tree = _parsed(text)
    return tree is not None and _is_size(tree.body)


def is_guard(text: str) -> bool:
    """Whether a guard only compares sizes and the like of the inputs."""
    tree = _parsed(text)
    return tree is not None and all(_is_guard_part(node) for node in ast.walk(tree))


def _parsed(text: str) -> ast.Expression | None:
    try:
        return ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return None


def _is_size(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=value):
            return isinstance(value, bool | int | float)
        case ast.Name(id=name):
            return name in _WORDS or _SYMBOL.fullmatch(name) is not None
        case ast.Call(func=ast.Name(id="Symbol" | "Dummy"), args=[ast.Constant(value=str()), *rest]):
            return all(_is_size(each) for each in [*rest, *(word.value for word in node.keywords)])
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str() as numeral), *rest]) if name in _NUMBERS:
            return _NUMERAL.fullmatch(numeral) is not None and all(
                _is_size(each) or _is_numeral(each) for each in [*rest, *(word.value for word in node.keywords)]
            )
        case ast.Call(func=ast.Name(id=name)) if name in _FUNCTIONS | _NUMBERS:
            return all(_is_size(each) for each in [*node.args, *(word.value for word in node.keywords)])
        case _ if isinstance(node, _ARITHMETIC):
            return all(_is_size(child) for child in ast.iter_child_nodes(node))
    return False


def _is_numeral(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_NUMERAL.fullmatch(node.value))


def _is_guard_part(node: ast.AST) -> bool:
    match node:
        case ast.Constant() | ast.Subscript():
            return True
        case ast.Name(id=name):
            return name in _GUARD_NAMES | _GUARD_FUNCTIONS | _FUNCTIONS
        case ast.Attribute(attr=attribute):
            return attribute in _GUARD_METHODS | _GUARD_ATTRIBUTES
        case ast.Call(func=ast.Name(id=name)):
            return name in _GUARD_FUNCTIONS | _FUNCTIONS
        case ast.Call(func=ast.Attribute(attr=attribute)):
            return attribute in _GUARD_METHODS
    return isinstance(node, _ARITHMETIC)
