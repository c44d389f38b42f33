"""Which findings count: rules by prefixes of their codes, and findings that may stand in a layer."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from autoinit.checking.findings import CheckResult, Finding, Suppressed
from autoinit.errors import ConfigurationError
from autoinit.errors.arguments import shown


@dataclass(frozen=True)
class Ignore:
    """Findings that may stand, and why.

    Attributes:
        layer, model: globs of names.
        codes: prefixes of codes, in any case.
    """

    layer: str
    codes: tuple[str, ...]
    reason: str
    model: str = "*"

    def __str__(self) -> str:
        of_model = f" of model {self.model}" if self.model != "*" else ""
        return f"ignore of {', '.join(self.codes)} for layer {self.layer}{of_model} ({self.reason})"


@dataclass(frozen=True)
class Selection:
    """What selecting made of a model's findings.

    Attributes:
        kept: those that count.
        suppressed: those that an ignore of their layer took out.
        unused_ignores: in words, the ignores for this model that took nothing out, though all their rules were
            selected.
    """

    kept: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...] = ()
    unused_ignores: tuple[str, ...] = ()


def enabled_codes(known: Collection[str], select: Sequence[str] = (), ignore: Sequence[str] = ()) -> frozenset[str]:
    """The codes that are selected: of the prefixes that fit a code, the longest decides, and `ignore` at equal length.

    Args:
        known: codes of all rules.
        select: prefixes of codes, in any case; none selects all.
        ignore: prefixes of codes, in any case.

    Raises:
        ConfigurationError: a prefix fits no code.
    """
    check_prefixes("select", select, known)
    check_prefixes("ignore", ignore, known)

    def enabled(code: str) -> bool:
        chosen = _longest(code, select) if select else 0
        return chosen is not None and chosen > (-1 if (left := _longest(code, ignore)) is None else left)

    return frozenset(code for code in known if enabled(code))


def select(
    findings: Iterable[Finding],
    select: Sequence[str],
    ignore: Sequence[str],
    ignores: Sequence[Ignore],
    model: str,
    known: Collection[str],
) -> Selection:
    """The findings of selected rules, less those that an ignore of their layer takes out.

    Args:
        findings: of one model.
        select: prefixes of codes; none selects all.
        ignore: prefixes of codes.
        ignores: findings that may stand; the first that fits is the one that takes a finding out.
        model: its name.
        known: codes of all rules.

    Raises:
        ConfigurationError: a prefix fits no code.
    """
    enabled = enabled_codes(known, select, ignore)
    for each in ignores:
        check_prefixes(f"ignores, layer {each.layer!r}", each.codes, known)
    applying = [each for each in ignores if fnmatchcase(model, each.model)]
    kept: list[Finding] = []
    suppressed: list[Suppressed] = []
    used: set[Ignore] = set()
    for finding in findings:
        if finding.code not in enabled:
            continue
        fitting = [each for each in applying if _fits(each, finding)]
        used.update(fitting)
        if fitting:
            suppressed.append(Suppressed(finding, str(fitting[0])))
        else:
            kept.append(finding)
    idle = (each for each in applying if each not in used and enabled.issuperset(_meant(each, known)))
    return Selection(tuple(kept), tuple(suppressed), tuple(_unused(each) for each in idle))


def join_unused(
    results: Sequence[CheckResult], ignores: Sequence[Ignore], unchecked: Collection[str] = ()
) -> tuple[CheckResult, ...]:
    """The results with each unused ignore once: those that no model used, at the first model that they are for.

    Args:
        results: of several models.
        ignores: those that each was checked with.
        unchecked: names of configured models that have no result. Of an ignore that is for one of them nothing is said.
    """
    said: list[list[str]] = [[] for _ in results]
    for each in ignores:
        meant = [index for index, result in enumerate(results) if fnmatchcase(result.model, each.model)]
        if not said or any(fnmatchcase(name, each.model) for name in unchecked):
            continue
        if not meant:
            said[0].append(f"unused {each}: no model of this name; remove it")
        elif all(_unused(each) in results[index].unused_ignores for index in meant):
            said[meant[0]].append(_unused(each))
    return tuple(replace(result, unused_ignores=tuple(texts)) for result, texts in zip(results, said, strict=True))


def check_prefixes(key: str, prefixes: Iterable[str], known: Collection[str]) -> None:
    """Refuses prefixes that no rule's code begins with.

    Raises:
        ConfigurationError: one fits no code; names it, the key that it stands under, and the codes.
    """
    for prefix in prefixes:
        if not any(_begins(code, prefix) for code in known):
            near = difflib.get_close_matches(prefix.upper(), known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigurationError(
                f"{key}: no rule's code begins with {shown(prefix)}; {hint}expected a beginning of one of "
                f"{', '.join(sorted(known))}"
            )


def _fits(ignore: Ignore, finding: Finding) -> bool:
    return fnmatchcase(finding.layer, ignore.layer) and any(_begins(finding.code, prefix) for prefix in ignore.codes)


def _meant(ignore: Ignore, known: Iterable[str]) -> frozenset[str]:
    """The codes that an ignore is about."""
    return frozenset(code for code in known if any(_begins(code, prefix) for prefix in ignore.codes))


def _unused(ignore: Ignore) -> str:
    return f"unused {ignore}: no such finding; remove it"


def _longest(code: str, prefixes: Iterable[str]) -> int | None:
    """The length of the longest prefix that a code begins with."""
    return max((len(prefix) for prefix in prefixes if _begins(code, prefix)), default=None)


def _begins(code: str, prefix: str) -> bool:
    return bool(prefix) and code.startswith(prefix.upper())
