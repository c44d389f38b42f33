"""INI302: nonlinearity could not be resolved."""

from __future__ import annotations

from collections.abc import Iterator

from autoinit.checking._subject import Subject
from autoinit.checking.findings import Finding, Severity
from autoinit.checking.rules._lookup import pasted
from autoinit.checking.rules.registry import About, rule
from autoinit.plans.layers import LayerPlan
from autoinit.tracing.dataflow import Unsupported


@rule("INI302", "nonlinearity could not be resolved", Severity.WARNING, About.USE)
def look(subject: Subject) -> Iterator[Finding]:
    """What a weight feeds is not known, so its scale could not be checked.

    ## What it is

    The way from a weight ends at an operation that is not in the table of operations, or at a function that could not
    be evaluated. Operations that are not in the table and that no such weight leads to are listed too: what lies
    behind them is seen, but not what they do.

    ## Why it matters

    A layer that is not resolved is neither initialised by `autoinit(model)` nor checked: whatever is wrong with it goes
    unseen. An unknown operation is never taken for the identity.

    ## Example

        class Snake(torch.autograd.Function): ...

        y = Snake.apply(self.conv(x))                                # what does conv feed?

    ## What to do

        autoinit.register_op("snake", "nonlinearity", functions=Snake.apply, function=lambda x: x + torch.sin(x) ** 2)
    Other roles are `transparent`, `norm`, `add`, `product`, `split`, `sink` and `source`.

    ## References

    - `help(autoinit.register_op)`: roles, spellings and what each role needs
    - [torch.library](https://pytorch.org/docs/stable/library.html): custom operators
    """
    reached: set[str] = set()
    unsupported = {each.name: each for each in subject.dataflow.unsupported}
    for layer in subject.plan.layers:
        if layer.status == "unresolved":
            reached |= {path[-1] for path in (layer.path, *(each.path for each in layer.alternatives)) if path}
            yield _layer(subject, layer, unsupported.get(layer.path[-1]) if layer.path else None)
    rest: dict[str, list[Unsupported]] = {}
    for each in subject.dataflow.unsupported:
        if each.name not in reached:
            rest.setdefault(each.op, []).append(each)
    for places in rest.values():
        yield _operation(places)


def _layer(subject: Subject, layer: LayerPlan, stop: Unsupported | None) -> Finding:
    fix = _registration(stop) if stop is not None else ""
    if stop is not None:
        why = (
            f"the way from it ends at {_spelled(stop)} ({_place(stop)}), expected an operation in autoinit's table. "
            f"The weight is neither initialised nor checked. Say what the operation does: {pasted(fix)}"
        )
    else:
        why = (
            f"{layer.note}; expected a nonlinearity that can be evaluated, or none. The weight is neither initialised "
            f"nor checked. Pass example_inputs, or describe the function with autoinit.register_op(...)."
        )
    return Finding(
        code="INI302",
        severity=Severity.WARNING,
        layer=layer.name,
        param=layer.param,
        message=f"{layer.name}: what it feeds is not known: {why}",
        fix=fix,
        location=(stop.source if stop is not None else None) or subject.location(layer.param, layer.source),
    )


def _operation(places: list[Unsupported]) -> Finding:
    first, fix = places[0], _registration(places[0])
    more = f" and {len(places) - 1} more place{'s' * (len(places) > 2)}" if len(places) > 1 else ""
    return Finding(
        code="INI302",
        severity=Severity.WARNING,
        layer=first.name,
        param="",
        message=(
            f"{first.name}: {_spelled(first)} ({_place(first)}{more}) is unknown, expected an operation in autoinit's "
            f"table. What comes out of it is not known, and layers beside it are judged without it. Say what it does: "
            f"{pasted(fix)}"
        ),
        fix=fix,
        location=first.source,
    )


def _place(stop: Unsupported) -> str:
    return str(stop.source or (f"in {stop.module}" if stop.module else "in the model's own forward"))


def _spelled(stop: Unsupported) -> str:
    """The operation as user code calls it: custom operators without their overload."""
    if not stop.op.startswith("torch._ops."):
        return stop.op
    return ".".join(["torch", "ops", *stop.op.split(".")[2:4]])


def _registration(stop: Unsupported) -> str:
    """The call that enters it in the table, as a nonlinearity: whether it is one is the user's to say."""
    spelling = _spelled(stop)
    name = spelling.rpartition(".")[2]
    if spelling.startswith("Tensor."):
        known = f'names="{name}", function=torch.{spelling}'
    elif "." not in spelling and name[:1].isupper():
        known = f"modules={name}, function=lambda x: {name}()(x)"
    else:
        known = f"functions={spelling}, function={spelling}"
    return f'autoinit.register_op("{name.lower()}", "nonlinearity", {known})'
