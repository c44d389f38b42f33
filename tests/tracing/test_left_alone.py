"""Reading leaves the model, the process and other threads as they were; what it cannot leave alone it refuses."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import gc
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules
from torch.utils._python_dispatch import BaseTorchDispatchMode, is_in_torch_dispatch_mode

from autoinit import ArgumentError, TraceError, autoinit, check, plan
from autoinit.signal import measure

WIDTH = 8
X = torch.linspace(-1, 1, 4 * WIDTH).view(4, WIDTH)
READS: dict[str, Callable[[nn.Module], Any]] = {
    "guessed": plan,
    "given": lambda model: plan(model, X),
    "symbolic": lambda model: plan(model, method="signal"),
    "measured": lambda model: measure(model, X),
    "checked": lambda model: check(model, X),
}


class Net(nn.Module):
    """Its forward lets what it holds be changed."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)
        self.held = held

    def forward(self, x: Tensor) -> Tensor:
        self.held.change()
        return self.last(torch.relu(self.first(x)))


class Slots:
    __slots__ = ("count", "log")

    def __init__(self) -> None:
        self.count, self.log = 0, [0]

    def change(self) -> None:
        self.count += 1
        self.log.append(self.count)

    def state(self) -> Any:
        return self.count, list(self.log)


class DictWithLock(dict[str, Any]):
    def __init__(self) -> None:
        super().__init__(seen=[])
        self.lock = threading.RLock()

    def change(self) -> None:
        with self.lock:
            self["seen"].append(len(self))
            self["new"] = 1

    def state(self) -> Any:
        return copy.deepcopy(dict(self))


class Pair(collections.namedtuple("Pair", "log other")):
    def change(self) -> None:
        self.log.append(1)

    def state(self) -> Any:
        return list(self.log)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    log: list[int] = dataclasses.field(default_factory=list)

    def change(self) -> None:
        self.log.append(1)

    def state(self) -> Any:
        return list(self.log)


class CopiesAsItself:
    """Cannot be copied: `__deepcopy__` gives the object itself."""

    def __init__(self) -> None:
        self.count, self.table, self.parts = 0, torch.zeros(3), {"log": collections.deque([0])}

    def __deepcopy__(self, memo: Any) -> CopiesAsItself:
        return self

    def change(self) -> None:
        self.count += 1
        self.table += 1
        self.parts["log"].append(self.count)
        self.parts["new"] = collections.deque()

    def state(self) -> Any:
        return self.count, self.table.tolist(), {name: list(each) for name, each in self.parts.items()}


class RefusesPickling:
    def __init__(self) -> None:
        self.log, self.lock = [0], threading.Condition()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("not me")

    def change(self) -> None:
        with self.lock:
            self.log.append(1)

    def state(self) -> Any:
        return list(self.log)


class Iterators:
    def __init__(self) -> None:
        self.values, self.counts = iter([1, 2, 3, 4, 5, 6, 7, 8]), iter(range(100))

    def change(self) -> None:
        next(self.values), next(self.counts)

    def state(self) -> Any:
        return list(copy.copy(self.values)), list(copy.copy(self.counts))


class Written:
    """A log that forward writes to."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def change(self) -> None:
        self.stream.write("forward\n")

    def state(self) -> Any:
        return self.stream.getvalue()


HELD = [Slots, DictWithLock, lambda: Pair([], None), Frozen, CopiesAsItself, RefusesPickling, Iterators, Written]
NAMES = ["slots", "dict with lock", "namedtuple", "frozen", "copies as itself", "refuses", "iterators", "stream"]


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.parametrize("make", HELD, ids=NAMES)
def test_what_a_model_holds_is_as_before(make: Callable[[], Any], read: Callable[[nn.Module], Any]):
    held = make()
    model, before = Net(held), held.state()
    read(model)
    assert model.held is held
    assert held.state() == before


def test_a_file_that_forward_writes_to_is_not_written(tmp_path: Path):
    class Logs(Written):
        def __init__(self, path: Path) -> None:
            self.stream = path.open("w")

    logs = Logs(tmp_path / "log.txt")
    plan(Net(logs), X)
    logs.stream.close()
    assert (tmp_path / "log.txt").read_text() == ""


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_a_generator_that_forward_consumes_is_refused(read: Callable[[nn.Module], Any]):
    class Consumes:
        def __init__(self) -> None:
            self.values = (each for each in range(3))

        def change(self) -> None:
            next(self.values)

    held = Consumes()
    with pytest.raises(TraceError, match=r"takes values from the generator '.*<genexpr>', which cannot be copied"):
        read(Net(held))
    assert list(held.values) == [0, 1, 2]


@functools.lru_cache
def positions(count: int) -> Tensor:
    return torch.arange(count).float()


TABLES: dict[int, Tensor] = {}


class Shares(nn.Module):
    """Everything that its classes and globals hold is changed by a forward."""

    count = 0
    log: ClassVar[list[int]] = []
    tables: ClassVar[dict[str, Tensor]] = {}
    scale = torch.ones(1)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor, known: dict[str, Tensor] = {}) -> Tensor:  # noqa: B006 - the fault of many models
        Shares.count += 1
        Shares.fresh = 1
        self.log.append(1)
        self.scale.add_(1)
        known["x"] = self.tables["x"] = x
        TABLES.setdefault(WIDTH, torch.arange(WIDTH))
        return self.last(torch.relu(self.first(x + positions(WIDTH))))


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_classes_defaults_and_caches_are_as_before(read: Callable[[nn.Module], Any]):
    """A cache that kept tensors of a reading, on meta, would break the model's own next forward."""
    positions.cache_clear()
    read(Shares())
    assert (Shares.count, Shares.log, Shares.tables, Shares.scale.item()) == (0, [], {}, 1.0)
    assert not hasattr(Shares, "fresh")
    assert Shares.forward.__defaults__ == ({},)
    assert TABLES == {}
    assert not positions(3).is_meta
    assert not positions(WIDTH).is_meta


class Reaches(nn.Module):
    """Its class holds an instance, which forward uses past its own modules."""

    instances: ClassVar[list[nn.Module]] = []

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        own = self.instances[0]
        assert isinstance(own, Reaches)
        return self.last(own.norm(x))


@pytest.mark.parametrize("read", [READS["guessed"], READS["given"], READS["measured"]], ids=["guess", "given", "meas"])
def test_a_forward_that_reaches_the_model_past_its_modules_is_refused(read: Callable[[nn.Module], Any]):
    model = Reaches()
    Reaches.instances[:] = [model]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TraceError, match=r"has written to norm\.num_batches_tracked.* of the model itself"):
        read(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def deterministic() -> Any:
    return torch.are_deterministic_algorithms_enabled()


def default_device() -> Any:
    return torch.get_default_device(), torch._C._len_torch_function_stack()


def dispatch_modes() -> Any:
    return torch._C._len_torch_dispatch_stack(), is_in_torch_dispatch_mode()


def anomaly() -> Any:
    return torch.is_anomaly_enabled()


SWITCHES: dict[str, tuple[Callable[[], object], Callable[[], Any]]] = {
    "deterministic": (lambda: torch.use_deterministic_algorithms(True, warn_only=True), deterministic),
    "autocast": (lambda: torch.autocast("cpu", torch.bfloat16).__enter__(), lambda: torch.is_autocast_enabled("cpu")),
    "autocast dtype": (
        lambda: torch.set_autocast_dtype("cpu", torch.float16), lambda: torch.get_autocast_dtype("cpu"),
    ),
    "device": (lambda: torch.set_default_device("cpu"), default_device),
    "meta": (lambda: torch.set_default_device("meta"), default_device),
    "entered device": (lambda: torch.device("meta").__enter__(), default_device),
    "dispatch mode": (lambda: BaseTorchDispatchMode().__enter__(), dispatch_modes),
    "dtype": (lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), torch.get_num_threads),
    "precision": (lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "gradients": (lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "inference": (lambda: torch.inference_mode().__enter__(), torch.is_inference_mode_enabled),
    "anomalies": (lambda: torch.autograd.set_detect_anomaly(True), anomaly),
    "benchmark": (lambda: setattr(torch.backends.cudnn, "benchmark", True), lambda: torch.backends.cudnn.benchmark),
    "environment": (lambda: os.environ.update(AUTOINIT_TEST="1"), lambda: os.environ.get("AUTOINIT_TEST")),
    "collector": (gc.disable, gc.isenabled),
    "warnings": (lambda: warnings.simplefilter("ignore"), lambda: list(warnings.filters)),
    "seed": (lambda: torch.manual_seed(3), lambda: torch.get_rng_state().tolist()),
}  # fmt: skip


class Switches(nn.Module):
    def __init__(self, switch: Callable[[], object]) -> None:
        super().__init__()
        self.first, self.last, self.switch = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4), switch

    def forward(self, x: Tensor) -> Tensor:
        made = self.last(torch.relu(self.first(x)))
        self.switch()
        return made


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_what_forward_switches_on_is_switched_back(name: str, read: Callable[[nn.Module], Any]):
    switch, position = SWITCHES[name]
    model = Switches(switch)
    before = position()
    read(model)
    assert position() == before


@pytest.mark.parametrize(
    "name", ["deterministic", "device", "entered device", "dispatch mode", "dtype", "environment", "collector"]
)
def test_it_is_switched_back_where_forward_fails(name: str):
    switch, position = SWITCHES[name]

    def fail() -> None:
        switch()
        raise ValueError("never")

    before = position()
    with pytest.raises(TraceError, match="never"):
        plan(Switches(fail), X)
    assert position() == before


# Threads.


@contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def process() -> tuple[Any, ...]:
    """What a process has only one of."""
    return (
        nn.Module.__call__, nn.Module.__getattr__, dict(torch_modules._global_forward_hooks), list(warnings.filters),
        torch.get_rng_state().tolist(), gc.isenabled(), torch.get_default_dtype(), torch.get_num_threads(),
        torch.is_grad_enabled(), torch.utils._device.CURRENT_DEVICE,
    )  # fmt: skip


def in_threads(works: list[Callable[[], object]]) -> list[BaseException]:
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))


def test_threads_that_read_separate_models_leave_the_process_alone():
    """Eight threads, many rounds each, at a switch interval of a microsecond; another runs a model all the while."""
    calls = []
    handle = torch_modules.register_module_forward_hook(lambda *_: calls.append(1))
    done = threading.Event()
    reads: list[Callable[[nn.Module], Any]] = [
        plan, lambda model: plan(model, X), lambda model: check(model, X), lambda model: measure(model, X), plan,
        lambda model: plan(model, (2, WIDTH)), lambda model: autoinit(model, seed=0, verbose=False), plan,
    ]  # fmt: skip
    models = [small() for _ in reads]
    layer = nn.Linear(2, 2)

    def rounds(read: Callable[[nn.Module], Any], model: nn.Module) -> None:
        for _ in range(6):
            read(model)

    def use() -> None:
        while not done.is_set():
            layer(torch.ones(1, 2))

    user_errors: list[BaseException] = []
    user = threading.Thread(target=lambda: user_errors.extend(in_threads([use])))
    before = process()
    with switching_often():
        user.start()
        works = [functools.partial(rounds, read, model) for read, model in zip(reads, models, strict=True)]
        errors = in_threads(list(works))
        done.set()
        user.join()
    after = process()
    counted = len(calls)
    layer(torch.ones(1, 2))
    handle.remove()
    assert (errors, user_errors) == ([], [])
    assert after == before
    assert len(calls) == counted + 1
    assert all(int(model[1].num_batches_tracked) == 0 for model in models)


def test_threads_plan_what_one_thread_plans():
    expected = plan(small())
    found: list[Any] = []
    with switching_often():
        errors = in_threads([lambda: found.append(plan(small()))] * 8)
    assert errors == []
    assert [dict(each) for each in found] == [dict(expected)] * 8


HANDLES: list[Any] = []


def _add_hook() -> None:
    HANDLES.append(torch_modules.register_module_forward_hook(lambda *_: None))


def test_a_hook_for_all_modules_that_is_added_meanwhile_stays():
    """The handle that the user got removes it."""
    plan(Switches(_add_hook), X)
    assert len(torch_modules._global_forward_hooks) == len(HANDLES) > 0
    while HANDLES:
        HANDLES.pop().remove()
    assert len(torch_modules._global_forward_hooks) == 0


def test_bad_arguments_leave_the_lock_free():
    with pytest.raises(ArgumentError, match="example_inputs is a object"):
        plan(small(), object())
    assert in_threads([lambda: plan(small())]) == []
