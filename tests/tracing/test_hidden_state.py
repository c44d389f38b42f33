"""Objects that cannot be copied and do not show their state: a forward works on the model's own, and that is said."""

from __future__ import annotations

import hashlib
import io
import itertools
import queue
import socket
import sqlite3
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autoinit import plan


class Holder(nn.Module):
    def __init__(self, held: Any, use: Callable[[Any], object] = lambda held: None):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.held, self.use = held, use

    def forward(self, x):
        self.use(self.held)
        return torch.relu(self.layer(x))


HIDING: dict[str, Callable[[], Any]] = {
    "socket": socket.socket,
    "SimpleQueue": queue.SimpleQueue,
    "HASH": hashlib.sha256,
    "Connection": lambda: sqlite3.connect(":memory:"),
    "memoryview": lambda: memoryview(bytearray(3)),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDING)
def test_what_cannot_be_undone_is_said(name):
    held = HIDING[name]()
    (said,) = [note for note in plan(Holder(held)).notes if "undone" in note]
    assert said == (
        f"what forward does to objects of {name} is not undone: they cannot be copied, and their state does not show"
    )
    if hasattr(held, "close"):
        held.close()


class Plain:
    """Refuses to be copied, and shows what it holds."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("no")

    def step(self) -> None:
        self.count += 1


COPIED: dict[str, tuple[Callable[[], Any], Callable[[Any], object], Callable[[Any], Any]]] = {
    "numpy's generator": (
        lambda: np.random.default_rng(0), lambda held: held.normal(), lambda held: held.bit_generator.state,
    ),
    "torch's generator": (
        lambda: torch.Generator().manual_seed(3), lambda held: held.seed(), lambda held: held.initial_seed(),
    ),
    "a count": (itertools.count, lambda held: next(held), lambda held: repr(held)),
    "a lock": (threading.Lock, lambda held: held.acquire(), lambda held: held.locked()),
    "a buffer": (lambda: io.BytesIO(b"abc"), lambda held: held.read(), lambda held: held.tell()),
    "a read-only view": (lambda: types.MappingProxyType({"a": [1]}), lambda held: held["a"].append(2), dict),
    "slots": (Plain, lambda held: held.step(), lambda held: held.count),
    "this thread's": (threading.local, lambda held: setattr(held, "x", 1), lambda held: vars(held)),
    "a ufunc": (lambda: np.add, lambda held: held(1, 2), repr),
}  # fmt: skip


@pytest.mark.parametrize("name", COPIED)
def test_what_is_copied_or_put_back_stays_and_needs_no_word(name):
    make, use, state = COPIED[name]
    held = make()
    before = str(state(held))
    made = plan(Holder(held, use), (2, 3))
    assert str(state(held)) == before
    assert not any("undone" in note for note in made.notes)
    assert made["layer"].nonlinearity == "relu"


def test_a_file_that_forward_reads_is_where_it_was(tmp_path):
    (tmp_path / "words.txt").write_text("one two")
    with open(tmp_path / "words.txt") as words:
        made = plan(Holder(words, lambda held: held.read(3)), (2, 3))
        assert words.read() == "one two"
    assert not any("undone" in note for note in made.notes)
