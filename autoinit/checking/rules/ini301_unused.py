"""INI301: weight never used."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autoinit.checking._subject import Subject
from autoinit.checking._wording import expression
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._elsewhere import used_elsewhere
from autoinit.checking.rules._lookup import listed, pasted
from autoinit.checking.rules.registry import About, rule
from autoinit.ops import Role
from autoinit.resolving.resolver import layer_name
from autoinit.tracing.dataflow import Dataflow

UNCALLED = "no operation of the forward uses it"
DISCARDED = "its output reaches neither an output nor a loss"


@dataclass(frozen=True)
class _Idle:
    """A trainable weight that does nothing, and why."""

    param: str
    why: str
    source: str = ""


@rule("INI301", "weight never used in forward", Severity.WARNING, About.USE)
def look(subject: Subject) -> Iterator[Finding]:
    """A trainable weight does not take part in what the model computes.

    ## What it is

    Parameters of two or more dimensions that no operation of the traced forward uses, and weights whose output
    reaches neither an output nor a loss. A module that is unused as a whole is one finding, which says how many
    weights it holds. Frozen ones (a target network beside the trained one) are left out.

    What is merely not on this forward is an info: weights that another method or another branch of forward uses, a
    copy of the module beside it, and networks named as those are that training calls by itself (a target, a critic).

    ## Why it matters

    It gets no gradient, so how it starts is how it stays. Often the sign of a mistake: a layer built and then
    forgotten in `forward`, one defined twice, an auxiliary head whose result is dropped. DistributedDataParallel
    stops on it unless `find_unused_parameters=True`.

    ## Example

        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x):
            return self.fc1(self.fc1(x))                             # fc2 was meant

    ## What to do

        def forward(self, x):
            return self.fc2(self.fc1(x))                             # use it, or delete it
    If forward uses it in another mode or on other inputs only, trace that: `check(model, example_inputs=...)`.

    ## References

    - [DistributedDataParallel](https://pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html),
      `find_unused_parameters`
    """
    idle = {each.param: each for each in _idle(subject)}
    groups: dict[str, list[_Idle]] = {}
    prefixes = _idle_modules(subject, set(idle))
    for param, each in idle.items():
        if subject.parameters[param].requires_grad:
            groups.setdefault(next((path for path in _above(param) if path in prefixes), param), []).append(each)
    for path, members in groups.items():
        uncalled = all(each.why == UNCALLED for each in members)
        user = used_elsewhere(subject, path) if uncalled else ""
        if user:
            yield _beside(subject, path, members, user)
        else:
            yield _one(subject, members[0]) if len(members) == 1 else _tree(subject, path, members)


def _idle(subject: Subject) -> Iterator[_Idle]:
    for name in subject.dataflow.uncalled:
        if name in subject.parameters:
            yield _Idle(name, UNCALLED)
    leading_on = _leading_on(subject.dataflow)
    for layer in subject.plan.layers:
        if layer.reason == "unused" or not any(use in leading_on for use in layer.uses):
            yield _Idle(layer.param, DISCARDED, layer.source)


def _leading_on(dataflow: Dataflow) -> set[str]:
    """Names of the operations whose result reaches a sink, or an operation of which nothing is known."""
    waiting = [op for op in dataflow.graph.nodes if op.role in (Role.SINK, Role.UNKNOWN)]
    found = set(waiting)
    while waiting:
        before = [op for op in dataflow.graph.predecessors(waiting.pop()) if op not in found]
        found.update(before)
        waiting += before
    return {op.name for op in found}


def _above(param: str) -> Iterator[str]:
    """The modules that hold a parameter, outermost first, less the model itself."""
    parts = param.split(".")[:-1]
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _idle_modules(subject: Subject, idle: set[str]) -> set[str]:
    """Modules all of whose weights are idle."""
    working = {
        path
        for param, parameter in subject.parameters.items()
        if parameter.dim() >= 2 and param not in idle
        for path in _above(param)
    }
    return {path for param in idle for path in _above(param)} - working


def _one(subject: Subject, idle: _Idle) -> Finding:
    name = layer_name(idle.param)
    parent = name.rpartition(".")[0] or "the model"
    fix = f"del {expression(name)}"
    return Finding(
        code="INI301",
        severity=Severity.WARNING,
        layer=name,
        param=idle.param,
        message=(
            f"{name}: {idle.param} {tuple(subject.parameters[idle.param].shape)} is never used, expected a place in "
            f"the forward of {parent}: {idle.why}, so it gets no gradient and stays as it starts. Call it, or remove "
            f"it: {pasted(fix)}"
        ),
        fix=fix,
        location=subject.location(idle.param, idle.source),
    )


def _beside(subject: Subject, path: str, members: Sequence[_Idle], user: str) -> Finding:
    """Of weights that something else than this forward uses."""
    name, first = layer_name(path), members[0].param
    shape = tuple(subject.parameters[first].shape)
    held = f"{first} {shape} is" if len(members) == 1 else f"its {len(members)} weights ({_all_of(members)}) are"
    return Finding(
        code="INI301",
        severity=Severity.INFO,
        layer=name,
        param=first,
        message=(
            f"{name}: {held} not on this forward, as is expected: {user}. This check says nothing about how it starts: "
            f"check it with example_inputs that lead there, or by itself."
        ),
        location=subject.location(first, members[0].source),
    )


def _all_of(members: Sequence[_Idle]) -> str:
    return listed([each.param for each in members])


def _tree(subject: Subject, path: str, members: Sequence[_Idle]) -> Finding:
    count = sum(math.prod(subject.parameters[each.param].shape) for each in members)
    whys = {each.why for each in members}
    why = whys.pop() if len(whys) == 1 else f"{UNCALLED}, or {DISCARDED}"
    fix = f"del {expression(path)}"
    return Finding(
        code="INI301",
        severity=Severity.WARNING,
        layer=path,
        param=members[0].param,
        message=(
            f"{path}: none of its {len(members)} weights ({_all_of(members)}; {count:,} "
            f"numbers) is ever used, expected a place in forward: {why.replace('uses it', 'uses them')}, so they get "
            f"no gradient and stay as they start. Call it, or remove it: {pasted(fix)}"
        ),
        fix=fix,
        location=subject.location(members[0].param, members[0].source),
    )
