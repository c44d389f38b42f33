"""Where objects keep their state: in attributes, in slots, or where Python cannot see it."""

from __future__ import annotations

import threading
import types
from collections import deque
from collections.abc import Iterator
from typing import Any


def slots_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """The slots of an object's classes that are filled, as (descriptor, what it holds)."""
    for kind in type(value).__mro__:
        for slot in vars(kind).values() if "__slots__" in vars(kind) else ():  # others, of C, cannot be set
            if isinstance(slot, types.MemberDescriptorType):
                try:
                    yield slot, slot.__get__(value)
                except AttributeError:  # it is empty
                    continue


def hides_state(value: Any) -> bool:
    """Whether an object's class is, or extends, one that is written in C and keeps its state to itself."""
    for base in type(value).__mro__[:-1]:
        new = base.__new__
        made_in_c = isinstance(new, types.BuiltinFunctionType) and new.__self__ is base  # as copyreg tells them
        if made_in_c or base.__flags__ & _IMMUTABLE:
            return base not in _SHOWN
    return not hasattr(value, "__dict__") and next(slots_of(value), None) is None


_SHOWN = (dict, list, set, tuple, deque, threading.local)
_IMMUTABLE = 1 << 8
"""Py_TPFLAGS_IMMUTABLETYPE: no Python class has it."""
