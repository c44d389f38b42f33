"""Whole calls of forward, each argument made by its name, and what to change after a call has failed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from autoinit.errors import words_of
from autoinit.tracing.guessing import _resizing as resizing
from autoinit.tracing.guessing import _tokens as tokens
from autoinit.tracing.guessing._arguments import entry_of, made
from autoinit.tracing.guessing._request import Request
from autoinit.tracing.guessing._subject import GuessedModel
from autoinit.tracing.inputs import Inputs

ORIGIN = "guessed from argument names"
_MOST_REPAIRS = 6
_CHOICES = 6
_SENSES = (re.compile("pixel|prompt_masks"), re.compile("input_(features|values)|mel"))
_OTHERS = re.compile("^(?!.*(pixel|prompt_masks|features|values))")
"""Arguments whose form is varied together."""
_FOLLOWING = re.compile("mask|type_ids|padding")
"""Arguments whose shape follows from others."""
_MOST_PLACEHOLDERS = 1 << 15
_COUNTED = re.compile(r"^\W*(\w+)\b.*?\bfeatures\W+(\d+)", re.DOTALL)
_UNPACKED = re.compile(r"values to unpack \(expected (\d+), got (\d+)\)")
_OF_TOKEN = re.compile(r"features \((\d+)\).* token id (\d+)", re.DOTALL)


def calls(subject: GuessedModel) -> Iterator[Inputs]:
    """All parts of the model at once, then fewer of them; nothing where an argument is of no known name."""
    wanted = [name for name in subject.arguments if (entry := entry_of(name)) is not None and entry.wanted]
    images = [name for name in wanted if "video" not in name]
    rest = [name for name in images if "image" not in name and "pixel" not in name]
    main = _main(subject)
    required = subject.required
    requests: list[tuple[Request, Sequence[str]]] = [(Request(subject), each) for each in (wanted, images)]
    requests += [(request, images) for request in _variations(subject, images, _SENSES)]
    requests += [(Request(subject), each) for each in (rest, main, ())]
    if "use_cache" in subject.arguments:
        requests.append((Request(subject), [*rest, "use_cache"]))
    requests += [(request, main) for request in _variations(subject, (*main, *required), (*_SENSES, _OTHERS))]
    seen: set[Any] = set()
    for request, selection in requests:
        call = _call(replace(request, seen=seen), tuple(dict.fromkeys((*selection, *required))))
        if call is not None and (key := _key(call)) not in seen:
            seen.add(key)
            yield call


def _variations(subject: GuessedModel, names: Sequence[str], groups: Iterable[re.Pattern[str]]) -> Iterator[Request]:
    """Other forms of the arguments of one group at a time."""
    for group in groups:
        if any(group.search(name) for name in names):
            yield from (Request(subject, choice, group) for choice in range(1, _CHOICES))


def _main(subject: GuessedModel) -> tuple[str, ...]:
    main = getattr(subject.model, "main_input_name", None)
    names = main if isinstance(main, (list, tuple)) else (main,)
    return tuple(name for name in names if name in subject.arguments)


def _key(call: Inputs) -> Any:
    return frozenset((name, str(getattr(value, "shape", value))) for name, value in call.kwargs.items())


def _call(request: Request, names: Iterable[str], repairs: int = 0) -> Inputs | None:
    """The arguments of these names, masks last; None if one that has no default cannot be made."""
    ordered = sorted(names, key=lambda name: (_FOLLOWING.search(name) is not None, name != "input_ids"))
    given: dict[str, Any] = {}
    for name in ordered:
        value = made(replace(request, given=given), name)
        for change in request.changes:
            value = change.applied(name, value)
        if value is not None:
            given[name] = value
        elif name in request.subject.required:
            return None
    if not given:
        return None
    return Inputs((), given, ORIGIN, partial(_repaired, request, given, repairs))


def _repaired(request: Request, given: Mapping[str, Any], repairs: int, error: BaseException) -> Inputs | None:
    """Another call, after what this one's failure says is missing; None if it was made before."""
    again = _otherwise(request, given, repairs, words_of(error), _is_of_none(error))
    if again is None or _key(again) in request.seen:
        return None
    request.seen.add(_key(again))
    return again


def _is_of_none(error: BaseException) -> bool:
    """Whether a failure may come of a value that is None, or was not set."""
    return isinstance(error, (AttributeError, TypeError, NameError))


def _otherwise(request: Request, given: Mapping[str, Any], repairs: int, text: str, of_none: bool) -> Inputs | None:
    if repairs >= _MOST_REPAIRS:
        return None
    names = tuple(given)
    special = _special(request, text)
    if special != request.special and "input_ids" in names:
        return _call(replace(request, special=special), names, repairs + 1)
    missing = [name for name in _missing(text, request.subject, of_none) if name not in names]
    if missing:
        again = _call(request, (*names, *missing), repairs + 1)
        if again is not None and len(again.kwargs) > len(names):
            return again
    if (axes := _axes(text)) is not None and axes not in request.axes.items():
        again = _call(replace(request, axes=dict([axes])), names, repairs + 1)
        if again is not None and _key(again) != _key(Inputs((), given)):
            return again
    change = resizing.next_change(text, given, request.changes)
    return _call(replace(request, changes=(*request.changes, change)), names, repairs + 1) if change else None


def _axes(text: str) -> tuple[int, int] | None:
    """How many axes an argument has, and how many it should have, where a shape could not be unpacked."""
    found = _UNPACKED.search(text)
    return (int(found[2]), int(found[1])) if found else None


def _special(request: Request, text: str) -> Mapping[str, int]:
    """How many placeholder tokens there must be, where the failure names the number of features for them.

    Some models count the numbers in the features; then each token stands for as many as an embedding has.
    """
    if found := _OF_TOKEN.search(text):
        return {**request.special, found[2]: int(found[1])}
    if found := _COUNTED.search(text):
        word, count = found[1].lower(), int(found[2])
        width = tokens.width(request)
        if width and count % width == 0 and (count > _MOST_PLACEHOLDERS or request.special.get(word) == count):
            count //= width
        return {**request.special, word: count} if count <= _MOST_PLACEHOLDERS else request.special
    return request.special


def _missing(text: str, subject: GuessedModel, forgotten: bool) -> list[str]:
    """Arguments of forward that a failure names, or that explain it, if the table knows them."""
    words = set(re.findall(r"\w+", text))
    entries = {name: entry for name in subject.arguments if (entry := entry_of(name)) is not None}
    found = [name for name in entries if name in words]
    if forgotten and not found:
        found = [name for name, entry in entries.items() if entry.companion]
    if "cache" in text.lower() and "use_cache" in entries:
        found.append("use_cache")
    return found
