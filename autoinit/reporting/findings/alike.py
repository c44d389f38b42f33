"""Findings that say the same of several layers, as one entry: people read one paragraph for one fault."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from autoinit.checking.findings import Finding
from autoinit.reporting import _wording as wording
from autoinit.reporting._collapsing import runs

_LEAST = 3
_NUMBER = re.compile(r"(?<![\w.=])(?<!\w\()\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*\w)")
"""A number that was counted or measured: no part of a name, no argument of a function."""
_CODE = re.compile(r"`[^`]*`")
_CALLED = re.compile(r"[\w.]+(?=\()")


@dataclass(frozen=True)
class AlikeFindings:
    """A finding and those that say the same of other layers."""

    finding: Finding
    others: tuple[Finding, ...] = ()

    @property
    def siblings(self) -> str:
        """`11 layers (std 0.0201, expected 0.04): blocks.{1-11}.mlp.fc1`; empty where there is no other.

        Behind layers that another line made than that of the finding, the line is named.
        """
        if not self.others:
            return ""
        stds = wording.spread(tuple(each.actual_std for each in self.others))
        expected = wording.spread(tuple(each.expected_std for each in self.others))
        measured = [f"std {stds}"] if stds != "-" else []
        measured += [f"expected {expected}"] if expected != "-" else []
        facts = f" ({', '.join(measured)})" if measured else ""
        return f"{wording.plural(len(self.others), 'layer')}{facts}: {', '.join(self._names())}"

    def _names(self) -> Iterator[str]:
        """The layers of the others, those of one line and of like names as one."""
        lines = [each.location for each in self.others]
        for name, members in runs([each.layer for each in self.others], lines):
            line = lines[members[0]]
            yield name if line is None or line == self.finding.location else f"{name} (line {line.line})"


def entries(findings: Sequence[Finding]) -> list[AlikeFindings]:
    """One entry for at least three findings of different layers that differ in names and numbers alone.

    Equal must be: rule, severity, file, rows, every word, the most plausible recipe, and the functions of
    the code to paste. An entry stands where the first of its findings stood.
    """
    groups: dict[Hashable, list[dict[str, int]]] = defaultdict(list)
    for index, finding in enumerate(findings):
        signature = _signature(finding)
        group = next((each for each in groups[signature] if finding.layer not in each), None)
        if group is None:
            group = {}
            groups[signature].append(group)
        group[finding.layer] = index
    merged: dict[int, AlikeFindings] = {}
    for group in (each for alike in groups.values() for each in alike):
        first, *others = group.values()
        if len(group) >= _LEAST:
            merged[first] = AlikeFindings(findings[first], tuple(findings[index] for index in others))
        else:
            merged |= {index: AlikeFindings(findings[index]) for index in group.values()}
    return [merged[index] for index in sorted(merged)]


def _signature(finding: Finding) -> Hashable:
    file = finding.location.file if finding.location is not None else ""
    called = frozenset(_CALLED.findall(finding.fix))
    recipe = finding.recipe.partition(" or ")[0]  # the most plausible; which others fit is chance
    message = finding.message.replace(finding.recipe, recipe)
    texts = tuple(_template(text, finding.layer) for text in (message, recipe))
    return finding.code, finding.severity, file, finding.rows, bool(finding.param), called, texts


def _template(text: str, layer: str) -> str:
    """A text without what may differ: the layer's name and those of the modules around it, numbers, code to paste."""
    text = _CODE.sub("``", text)
    for depth, name in enumerate(_names(layer)):
        text = re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w|\.\d)", f"<{depth}>", text)
    return _NUMBER.sub("#", text)


def _names(layer: str) -> Iterator[str]:
    """The layer and the modules around it whose names end in a number, innermost first."""
    yield from filter(None, [layer])
    parts = layer.split(".")
    yield from (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1) if parts[end - 1].isdecimal())
