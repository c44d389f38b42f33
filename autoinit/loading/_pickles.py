"""What a pickle would import and call, read from its opcodes: nothing is built."""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

_RENAMED = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules that pickles call by their names in Python 2."""
_STRINGS = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING")

_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
"""The number that is the first pickle of torch's old format."""
_MAGIC_AT = 16
"""Bytes of opcodes before it, at most."""
_OLD_PICKLES = 5
"""That number, the version of the format, the machine, what was saved, and the names of the stores of numbers."""


@dataclass
class Pickled:
    """What a pickle would import.

    Attributes:
        named: dotted names of it all.
        called: those of them that are called with arguments.
    """

    named: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)


def look_at(file: BinaryIO) -> Pickled:
    """The pickles that torch loads from a stream: one in a zip archive, five in its old format, before the numbers.

    Raises:
        ValueError: one of them is damaged.
    """
    found = Pickled()
    head = file.read(len(_MAGIC) + _MAGIC_AT)
    file.seek(-len(head), io.SEEK_CUR)
    for _ in range(_OLD_PICKLES if _MAGIC in head else 1):
        _look_at_one(file, found)
    return found


def _look_at_one(file: BinaryIO, found: Pickled) -> None:
    """Goes through the opcodes with a stack on which only names of imports are told apart."""
    stack: list[object] = []
    memo: dict[Any, object] = {}
    try:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "DUP":
                stack.append(stack[-1])
            else:
                taken = list(_taken(opcode, stack))
                stack += _given(opcode, argument, taken, found)
    except (IndexError, KeyError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ValueError(f"a pickle in it is damaged ({type(error).__name__})") from error


def _taken(opcode: pickletools.OpcodeInfo, stack: list[object]) -> Iterator[object]:
    """What an opcode takes from the stack, last first."""
    if pickletools.markobject in opcode.stack_before:
        while (top := stack.pop()) is not pickletools.markobject:
            yield top
    for _ in range(sum(each not in (pickletools.markobject, pickletools.stackslice) for each in opcode.stack_before)):
        yield stack.pop()


def _given(opcode: pickletools.OpcodeInfo, argument: object, taken: list[object], found: Pickled) -> list[object]:
    """What an opcode puts on the stack; what it imports or calls is noted."""
    name = opcode.name
    if name in ("GLOBAL", "INST"):
        module, _, attribute = str(argument).partition(" ")
        imported = _Import(f"{_RENAMED.get(module, module)}.{attribute}")
        found.named.add(imported)
        return [imported]
    if name == "STACK_GLOBAL":
        attribute, module = (str(each) if isinstance(each, str) else "?" for each in taken)
        found.named.add(f"{module}.{attribute} (name made while unpickling)")
    elif name in ("EXT1", "EXT2", "EXT4"):
        found.named.add(f"copyreg extension {argument}")
    elif name in ("REDUCE", "OBJ"):
        called = taken[-1]
        found.called.add(called if isinstance(called, _Import) else "something made while unpickling")
    if name in _STRINGS:
        return [argument]
    return [pickletools.markobject if each is pickletools.markobject else None for each in opcode.stack_after]


class _Import(str):
    """The dotted name of an import, unlike a string of the pickle's."""
