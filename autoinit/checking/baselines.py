"""Baselines: findings that were there when a project began to check, so that only new ones fail it.

A baseline notes where a finding is and how grave, not its numbers nor its words: another seed, which gives other
numbers, does not disturb it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from autoinit.checking.findings import CheckResult, Finding, Severity, Suppressed
from autoinit.errors import ConfigurationError

VERSION = 1
BASELINE = "baseline"
"""What `Suppressed.by` says of a finding that the baseline took out."""

_WRITE_ANEW = "write it anew with --write-baseline"


@dataclass(frozen=True)
class BaselineEntry:
    """Findings of one rule about one parameter.

    Attributes:
        count: how many of this severity there were.
    """

    model: str
    code: str
    layer: str
    param: str
    severity: Severity
    count: Annotated[int, msgspec.Meta(ge=1)] = 1

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes a finding the same one as before."""
        return self.model, self.code, self.layer, self.param

    def __str__(self) -> str:
        return f"{self.model}: {self.code} {self.severity} of {self.param or self.layer or 'the model'}"


class Split(NamedTuple):
    """What a baseline makes of a model's findings.

    Attributes:
        kept: those that are new, or graver than they were.
        suppressed: the others.
        stale: entries of this model that no longer occur, with the number that is missing as their count.
    """

    kept: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...]
    stale: tuple[BaselineEntry, ...]


@dataclass(frozen=True)
class Baseline:
    """Findings that are known and do not count, sorted."""

    entries: tuple[BaselineEntry, ...] = ()

    def split(self, model: str, findings: Sequence[Finding], codes: Collection[str] | None = None) -> Split:
        """Parts a model's findings into new and known ones.

        An entry takes out as many findings as it counts, of its severity or milder; the gravest findings come first.

        Args:
            model: its name.
            findings: of the selected rules.
            codes: of the rules that were selected, so that entries of the others are not called stale; None for all.
        """
        left = Counter[BaselineEntry]()
        of_key: dict[tuple[str, str, str, str], list[BaselineEntry]] = {}
        for entry in self.entries:
            if entry.model == model:
                left[entry] += entry.count
                of_key.setdefault(entry.key, []).append(entry)
        known: set[int] = set()
        for index in sorted(range(len(findings)), key=lambda each: Severity(findings[each].severity).rank):
            finding = findings[index]
            entries = of_key.get((model, finding.code, finding.layer, finding.param), ())
            fitting = [each for each in entries if left[each] and each.severity.at_least(finding.severity)]
            if fitting:
                left[max(fitting, key=lambda each: each.severity.rank)] -= 1
                known.add(index)
        return Split(
            tuple(finding for index, finding in enumerate(findings) if index not in known),
            tuple(Suppressed(finding, BASELINE) for index, finding in enumerate(findings) if index in known),
            tuple(
                BaselineEntry(*entry.key, entry.severity, count)
                for entry, count in left.items()
                if count and (codes is None or entry.code in codes)
            ),
        )

    def taken_out(
        self, result: CheckResult, codes: Collection[str] | None = None
    ) -> tuple[CheckResult, tuple[BaselineEntry, ...]]:
        """The result without known findings, and the entries of its model that no longer occur; codes: see `split`."""
        split = self.split(result.model, result.findings, codes)
        kept = replace(result, findings=split.kept, suppressed=(*result.suppressed, *split.suppressed))
        return kept, split.stale

    def to_json(self) -> str:
        """As the text of a baseline file: an entry on each line, so that a change is a line of a diff."""
        lines = ",\n    ".join(json.dumps(_document(entry), ensure_ascii=False) for entry in self.entries)
        entries = f"[\n    {lines}\n  ]" if lines else "[]"
        return f'{{\n  "version": {VERSION},\n  "entries": {entries}\n}}\n'


def baseline_of(results: Iterable[CheckResult], others: Baseline | None = None) -> Baseline:
    """The baseline that takes out every finding of some checks, those included that a baseline took out already.

    Args:
        results: of the models that were checked.
        others: an earlier baseline, whose entries of models that were not checked stay.
    """
    counts = Counter[tuple[str, str, str, str, Severity]]()
    checked = set()
    for result in results:
        checked.add(result.model)
        known = [each.finding for each in result.suppressed if each.by == BASELINE]
        counts.update(
            (result.model, each.code, each.layer, each.param, each.severity) for each in (*result.findings, *known)
        )
    entries = [BaselineEntry(*found, count) for found, count in counts.items()]
    entries += [each for each in (others.entries if others is not None else ()) if each.model not in checked]
    return Baseline(tuple(sorted(entries, key=lambda each: (*each.key, each.severity.rank))))


def read_baseline(path: Path) -> Baseline:
    """What a baseline file says.

    Raises:
        ConfigurationError: it is missing, cannot be read, is no baseline, or is of another version.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ConfigurationError(f"{path}: no regular file; expected a baseline")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such baseline; write it with --write-baseline {path}") from error
    except (OSError, ValueError) as error:  # the second of a null byte in its name
        raise ConfigurationError(
            f"{path}: the baseline cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        version = msgspec.json.decode(content, type=_BaselineVersion).version
        if version == VERSION:
            return Baseline(tuple(msgspec.json.decode(content, type=_BaselineFile).entries))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not a baseline of autoinit: {error}; {_WRITE_ANEW}") from error
    raise ConfigurationError(f"{path}: version = {version}; expected {VERSION}; {_WRITE_ANEW}")


def stale_note(stale: Sequence[BaselineEntry], path: Path) -> str:
    """The note about entries that no longer occur; empty where there is none."""
    if not stale:
        return ""
    count = sum(entry.count for entry in stale)
    entries, occur = ("entries", "occur") if count > 1 else ("entry", "occurs")
    return f"{count} {entries} of the baseline {path} no longer {occur} (first: {stale[0]}): {_WRITE_ANEW}"


class _BaselineVersion(msgspec.Struct):
    """The part of a baseline file that every version has."""

    version: int


class _BaselineFile(msgspec.Struct, forbid_unknown_fields=True):
    """A baseline file."""

    version: int
    entries: list[BaselineEntry]


def _document(entry: BaselineEntry) -> dict[str, str | int]:
    """An entry's fields, without what is as it always is."""
    fields: dict[str, str | int] = {
        "model": entry.model, "code": entry.code, "layer": entry.layer, "param": entry.param,
        "severity": entry.severity,
    }  # fmt: skip
    return fields if entry.count == 1 else {**fields, "count": entry.count}
