"""How much larger each parameter's surroundings are than in a base model: the model's parameters beside the base's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from autoinit.errors import PlanError
from autoinit.transfer.facts import ParameterFacts
from autoinit.transfer.rules import Growth, Place

Parameters = Mapping[str, ParameterFacts]


def growth(wide: ParameterFacts, narrow: ParameterFacts) -> Growth:
    """How much a parameter has grown against its counterpart.

    Raises:
        PlanError: they are not the same thing.
    """
    if (wide.what, len(wide.shape), wide.tied) != (narrow.what, len(narrow.shape), narrow.tied):
        raise PlanError(
            f"{wide.name} is {_described(wide)}, its counterpart {narrow.name} in the base model {_described(narrow)}. "
            f"Expected the same architecture in another width."
        )
    branches, place = _depth(wide, narrow)
    features = wide.features / narrow.features
    if wide.before_tied:  # it multiplies what the head reads, and is to fall as the head's fan_in grows
        return Growth(fan_in=features, branches=branches, place=place)
    rows, columns = matrix(wide)
    return Growth(wide.fan_in / narrow.fan_in, features, branches, place, rows, columns)


def matrix(facts: ParameterFacts) -> tuple[int, int]:
    """Rows and columns of a weight that is stored as a matrix; 0 and 0 for everything else."""
    if facts.layer is None or len(facts.shape) != 2:
        return 0, 0
    return facts.shape[0], facts.shape[1]


def _depth(wide: ParameterFacts, narrow: ParameterFacts) -> tuple[float, Place]:
    if not wide.branches or not narrow.branches:
        return 1.0, ""
    return wide.branches / narrow.branches, "end" if wide.ends_branch else "inside"


def _described(facts: ParameterFacts) -> str:
    return f"{facts.what}{', tied to a head,' if facts.tied else ''} of shape {list(facts.shape)}"


def counterparts(wide: Parameters, narrow: Parameters) -> dict[str, str]:
    """The name of the base model's parameter for each of the model's.

    They have the same name, but for the numbers of blocks where the model has more (or fewer) of them: then what is
    like the last of them is compared with the base's last, what is like the first with its first, and those between
    with those between, which must be alike.

    Raises:
        PlanError: there is none, or it cannot be told which.
    """
    if wide.keys() == narrow.keys():
        return {name: name for name in wide}
    ours, theirs = _numbered_alike(wide), _numbered_alike(narrow)
    found: dict[str, str] = {}
    for pattern, names in ours.items():
        if pattern not in theirs:
            raise PlanError(f"{names[0]}: the base model has no such parameter. Expected the same architecture.")
        found.update(_matched(names, theirs[pattern], wide, narrow))
    return {name: found[name] for name in wide}


_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


def _numbered_alike(parameters: Parameters) -> dict[str, list[str]]:
    """Names that differ in their numbers alone, in the model's order."""
    found: dict[str, list[str]] = {}
    for name in parameters:
        found.setdefault(_NUMBER.sub("#", name), []).append(name)
    return found


def _matched(
    names: Sequence[str], bases: Sequence[str], wide: Parameters, narrow: Parameters
) -> Iterator[tuple[str, str]]:
    if len(names) == len(bases):
        yield from zip(names, bases, strict=True)
        return
    first, last = _kind(wide[names[0]]), _kind(wide[names[-1]])
    between = {_kind(narrow[each]) for each in bases[1:-1]}
    for name in names:
        kind = _kind(wide[name])
        if kind in (first, last):
            yield name, bases[-1 if kind == last else 0]
        elif len(between) == 1:
            yield name, bases[1]
        else:
            raise PlanError(
                f"{name}: the base model has {len(bases)} such parameters, this model {len(names)}, and it cannot be "
                f"told which of them to compare with. Pass a base of the same depth."
            )


def _kind(facts: ParameterFacts) -> tuple[object, ...]:
    return facts.shape, facts.what, facts.is_head
