"""Findings that say the same of sibling layers, as one entry: people read a repeated block once."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from autoinit.checking.findings import Finding
from autoinit.reporting import _wording as wording
from autoinit.reporting._collapsing import Name, spell, tokens_of

_LEAST = 3
_SAME_STD = 0.05
_MEASURED = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+")


@dataclass(frozen=True)
class AlikeFindings:
    """A finding and those that say the same of its siblings."""

    finding: Finding
    others: tuple[Finding, ...] = ()

    @property
    def siblings(self) -> str:
        """`blocks.{1-11}.mlp.fc1 (11 layers, std 0.0201)`: the layers of the others; empty where there is none."""
        if not self.others:
            return ""
        stds = tuple(each.actual_std for each in self.others)
        std = f", std {wording.spread(stds)}" if any(each is not None for each in stds) else ""
        return f"{_spelled(self.others)} ({wording.plural(len(self.others), 'layer')}{std})"


def entries(findings: Sequence[Finding]) -> list[AlikeFindings]:
    """One entry for at least three findings that differ in one number of their layers' names, and in noise.

    Equal must be: rule, severity, source line, rows, every word and every whole number of the message, fix and recipe.
    Stds may differ by 5 %. An entry stands where the first of its findings stood.
    """
    buckets: dict[Hashable, list[int]] = defaultdict(list)
    for index, finding in enumerate(findings):
        buckets[_signature(finding)].append(index)
    names = [tokens_of(finding.layer) for finding in findings]
    merged: dict[int, AlikeFindings] = {}
    for bucket in buckets.values():
        left = bucket
        while left:
            run = _run(findings, names, left)
            merged[run[0]] = AlikeFindings(findings[run[0]], tuple(findings[index] for index in run[1:]))
            left = [index for index in left if index not in run]
    return [merged[index] for index in sorted(merged)]


def _run(findings: Sequence[Finding], names: Sequence[Name], left: Sequence[int]) -> list[int]:
    """The first that is left, with its siblings along that number of its name along which it has most."""
    first, tokens = findings[left[0]], names[left[0]]
    best = [left[0]]
    for place in (place for place, token in enumerate(tokens) if isinstance(token, tuple)):
        found = {tokens[place]: left[0]}
        for index in left[1:]:
            other = names[index]
            if _but(other, place) == _but(tokens, place) and _same_stds(first, findings[index]):
                found.setdefault(other[place], index)
        best = max(best, list(found.values()), key=len)
    return best if len(best) >= _LEAST else best[:1]


def _but(tokens: Name, place: int) -> Name:
    return (*tokens[:place], *tokens[place + 1 :])


def _same_stds(one: Finding, other: Finding) -> bool:
    pairs = ((one.expected_std, other.expected_std), (one.actual_std, other.actual_std))
    return all(_same(*pair) for pair in pairs)


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None or not (math.isfinite(one) and math.isfinite(other)):
        return str(one) == str(other)
    return math.isclose(one, other, rel_tol=_SAME_STD)


def _signature(finding: Finding) -> Hashable:
    names = list(_names(finding.layer))
    texts = tuple(_template(text, names) for text in (finding.message, finding.fix, finding.recipe))
    skeleton = re.sub(r"\d+", "#", finding.layer)
    return finding.code, finding.severity, finding.location, finding.rows, bool(finding.param), skeleton, texts


def _names(layer: str) -> Iterator[re.Pattern[str]]:
    """Finds mentions of the layer and of the modules around it that bear a number, innermost first."""
    for number in reversed(list(re.finditer(r"\d+", layer))):
        parts = layer[: number.end()].split(".")
        python = re.escape(parts[0]) + "".join(
            rf"(?:\.{part}|\[{part}\])" if part.isdecimal() else rf"\.{re.escape(part)}" for part in parts[1:]
        )
        yield re.compile(rf"(?<!\w){python}(?![\d])")


def _template(text: str, names: Sequence[re.Pattern[str]]) -> str:
    """A text without what may differ: numbers in the names of the layer and its parents, and measured numbers."""
    for depth, name in enumerate(names):
        text = name.sub(f"<{depth}>", text)
    return _MEASURED.sub("#", text)


def _spelled(findings: Sequence[Finding]) -> str:
    """The layers' names as one; they differ in one number."""
    columns = zip(*(tokens_of(finding.layer) for finding in findings), strict=True)
    return spell(
        tuple(
            column[0] if isinstance(column[0], str) else tuple(sorted({number for each in column for number in each}))
            for column in columns
        )
    )
