"""What to check and how: `[tool.autoinit]` of a pyproject.toml, and what the command line says over it."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoinit import formats
from autoinit.checking.findings import Severity
from autoinit.checking.selecting import Ignore
from autoinit.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOLERANCE = 0.10

InputShape = tuple[tuple[int, ...], str]
"""The sizes of an example input, and the name of its dtype, empty where the model decides."""

_FILE = "pyproject.toml"
_TABLE = "[tool.autoinit]"
_KEYS = (
    "models", "select", "ignore", "ignores", "fail-level", "recipe", "baseline", "tolerance", "format", "output",
)  # fmt: skip
_MODEL_KEYS = ("spec", "name", "arguments", "weights", "input-shape", "recipe", "trust", "max-size")
_IGNORE_KEYS = ("layer", "codes", "reason", "model")
DTYPES = (
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128",
)  # fmt: skip
_LEVELS = tuple(level.value for level in Severity)
_SHAPE = re.compile(r"\s*(\d{1,15}(?:\s*,\s*\d{1,15})*)\s*(?::\s*(\w+)\s*)?", re.ASCII)
_SHAPE_FORM = 'a shape such as "1,3,224,224", or with a dtype "1,128:int64"'
_IN_TOLERANCE = "a number between 0 and 1, such as 0.1"
_LONGEST = 100


@dataclass(frozen=True)
class ModelEntry:
    """A model to check.

    Attributes:
        spec: what `autoinit check` loads; a file in it is found from any working directory.
        name: in reports and baselines; the spec as written, unless one is given.
        arguments: of a factory.
        weights: a file to load into it.
        input_shape: of its example inputs; none where it is traced without.
        recipe: that it follows; empty where the configuration's holds.
        trust: whether its files may run code.
        max_size: how many bytes its files may unpack to.
    """

    spec: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    input_shape: tuple[InputShape, ...] = ()
    recipe: str = ""
    trust: bool = False
    max_size: int | None = None


@dataclass(frozen=True)
class Configuration:
    """What to check and how.

    Attributes:
        root: the directory that its paths and modules start at.
        file: the file it came from, if there is one.
        models: to check where a command names none.
        select, ignore: prefixes of codes; no `select` selects every rule.
        ignores: single findings that are known, each with its reason.
        fail_level: the least severity that fails.
        recipe: that models follow which declare none.
        baseline: a file of known findings.
        tolerance: how far a std may be off, relative, beyond noise.
        format, output: how the result is shown, and the file it is written to.
    """

    root: Path
    file: Path | None = None
    models: tuple[ModelEntry, ...] = ()
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    ignores: tuple[Ignore, ...] = ()
    fail_level: Severity = Severity.ERROR
    recipe: str = "auto"
    baseline: Path | None = None
    tolerance: float = TOLERANCE
    format: str = "text"
    output: Path | None = None

    def recipe_of(self, model: ModelEntry) -> str:
        """The recipe that a model declares: its own, else the one for all."""
        return model.recipe or self.recipe

    def overridden(
        self,
        *,
        models: Sequence[str] = (),
        select: Sequence[str] = (),
        ignore: Sequence[str] = (),
        ignores: Sequence[Ignore] = (),
        fail_level: str | None = None,
        recipe: str | None = None,
        baseline: Path | None = None,
        tolerance: float | None = None,
        format: str | None = None,
        output: Path | None = None,
    ) -> Configuration:
        """The configuration under what a command line says: what is given there wins, a list replaces the list.

        ignores: come on top of those that are configured.
        models: specs, or names of configured models. One that is configured keeps what is configured for it; a recipe
        that is given holds for every model. Paths start at the working directory.

        Raises:
            ConfigurationError: a value is out of range.
        """
        if fail_level is not None and fail_level not in _LEVELS:
            raise ConfigurationError(f"fail_level={fail_level!r}; expected {_any_of(_LEVELS)}")
        if format is not None and format not in formats.names("check"):
            raise ConfigurationError(f"format={format!r}; expected {_any_of(formats.names('check'))}")
        if tolerance is not None and not 0 < tolerance < 1:
            raise ConfigurationError(f"tolerance={tolerance}; expected {_IN_TOLERANCE}")
        chosen = self._chosen(models) if models else self.models
        return replace(
            self,
            models=tuple(replace(each, recipe=recipe) for each in chosen) if recipe is not None else chosen,
            select=tuple(select) or self.select,
            ignore=tuple(ignore) or self.ignore,
            ignores=(*self.ignores, *ignores),
            fail_level=Severity(fail_level or self.fail_level),
            recipe=self.recipe if recipe is None else recipe,
            baseline=baseline or self.baseline,
            tolerance=self.tolerance if tolerance is None else tolerance,
            format=format or self.format,
            output=output or self.output,
        )

    def _chosen(self, specs: Sequence[str]) -> tuple[ModelEntry, ...]:
        """The configured models that the texts name, in the order of the texts, and entries for other specs."""
        chosen: dict[str, ModelEntry] = {}
        for text in specs:
            spec = _located(text, Path.cwd())
            named = [each for each in self.models if each.name == text]
            entries = named or [each for each in self.models if each.spec == spec] or [ModelEntry(text, text)]
            chosen.update((entry.name, entry) for entry in entries)
        return tuple(chosen.values())


def load_configuration(path: Path | None = None) -> Configuration:
    """What a file's table `[tool.autoinit]` says.

    Args:
        path: the file. None takes the first pyproject.toml that has the table, from the working directory upwards;
            an empty configuration where there is none.

    Raises:
        ConfigurationError: the file is missing, is not TOML, or holds an unknown key or a value that does not fit.
    """
    if path is not None:
        table = _table_of(path)
        if table is None:
            raise ConfigurationError(f"{path}: no table {_TABLE}; expected one, with keys such as models and select")
        return _configuration(table, path.resolve())
    directory = Path.cwd()
    for parent in (directory, *directory.parents):
        file = parent / _FILE
        if os.path.isfile(file) and (table := _table_of(file)) is not None:
            return _configuration(table, file)
    return Configuration(directory)


def parse_shape(text: str) -> InputShape | None:
    """`1,3,224,224`, or with a dtype `1,128:int64`; None for anything else."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    sizes = tuple(int(size) for size in match[1].split(","))
    return (sizes, match[2] or "") if all(sizes) else None


@dataclass(frozen=True)
class _Table:
    """A table of the file. Takes out a key's value, or its default, and refuses one that does not fit.

    place: where it lies in the table of autoinit, such as `models[1]`; empty for that table itself.
    """

    file: Path
    place: str
    values: Mapping[str, Any]

    @classmethod
    def of(cls, value: object, keys: Sequence[str], file: Path, place: str = "") -> _Table:
        """The table that a value is, with no key but those.

        Raises:
            ConfigurationError: it is no table, or has another key.
        """
        if not isinstance(value, dict):
            raise ConfigurationError(f"{file}: {f'{_TABLE} {place}'.rstrip()} = {_shown(value)}; expected a table")
        table = cls(file, place, value)
        for key in value:
            if key not in keys:
                near = difflib.get_close_matches(key.replace("_", "-").lower(), keys, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise table.refusal(key, f"{hint}expected one of the keys {', '.join(keys)}", "unknown key ")
        return table

    def refusal(self, key: str, expected: str, what: str = "") -> ConfigurationError:
        """The error about a key's value."""
        value = _shown(self.values[key])
        text = expected if what else f"expected {expected}"
        return ConfigurationError(f"{self.file}: {_TABLE} {what}{self._at(key)} = {value}; {text}")

    def text(self, key: str, default: str | None = None, *, expected: str = "a text that is not empty") -> str:
        """A string. Without a default the key must be there."""
        if key not in self.values and default is not None:
            return default
        if key not in self.values:
            raise ConfigurationError(f"{self.file}: {_TABLE} {self.place} has no {key}; expected {expected}")
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise self.refusal(key, expected)
        return value

    def one_of(self, key: str, choices: Sequence[str]) -> str:
        """One of some strings, by default the first."""
        value = self.values.get(key, choices[0])
        if value not in choices:
            raise self.refusal(key, _any_of(choices))
        return str(value)

    def flag(self, key: str) -> bool:
        """True or false, by default false."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.refusal(key, "true or false")
        return value

    def count(self, key: str) -> int | None:
        """A number from 1; None where there is none."""
        value = self.values.get(key)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise self.refusal(key, "a number of bytes, such as 20_000_000_000")
        return value

    def fraction(self, key: str, default: float) -> float:
        """A number between 0 and 1."""
        value = self.values.get(key, default)
        if not isinstance(value, (int, float)) or not 0 < value < 1:
            raise self.refusal(key, _IN_TOLERANCE)
        return float(value)

    def path(self, key: str, root: Path) -> Path | None:
        """A path that starts at the root."""
        return root / self.text(key, expected="a path") if key in self.values else None

    def items(self, key: str, expected: str) -> Iterator[tuple[str, Any]]:
        """Each item of an array, by default empty, with its place."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.refusal(key, expected)
        for index, item in enumerate(value):
            yield f"{self._at(key)}[{index}]", item

    def codes(self, key: str, *, some: bool = False) -> tuple[str, ...]:
        """Prefixes of codes; at least one where the array must hold `some`."""
        expected = 'an array of codes or their beginnings, such as ["INI2", "INI103"]'
        prefixes = []
        for place, item in self.items(key, expected):
            if not isinstance(item, str) or not item.strip():
                raise ConfigurationError(
                    f'{self.file}: {_TABLE} {place} = {_shown(item)}; expected a code or its beginning, such as "INI2"'
                )
            prefixes.append(item.strip())
        if some and not prefixes:
            if key in self.values:
                raise self.refusal(key, f"{expected}, not an empty one")
            raise ConfigurationError(f"{self.file}: {_TABLE} {self.place} has no {key}; expected {expected}")
        return tuple(prefixes)

    def shapes(self, key: str) -> tuple[InputShape, ...]:
        """The shape of one input, or of several."""
        value = self.values.get(key, [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list):
            raise self.refusal(key, f"{_SHAPE_FORM}, or an array of such")
        shapes = [parse_shape(text) if isinstance(text, str) else None for text in texts]
        if any(shape is None or shape[1] not in ("", *DTYPES) for shape in shapes):
            raise self.refusal(key, f"{_SHAPE_FORM}, or an array of such; dtypes are {', '.join(DTYPES)}")
        return tuple(shape for shape in shapes if shape is not None)

    def _at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


def _table_of(file: Path) -> object | None:
    """A file's [tool.autoinit], or None where it has none."""
    if os.path.exists(file) and not (os.path.isfile(file) or os.path.isdir(file)):
        raise ConfigurationError(f"{file}: no regular file; expected TOML")
    try:
        with file.open("rb") as opened:
            document = tomllib.load(opened)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise ConfigurationError(f"{file}: not TOML that can be read: it is nested too deep") from error
    except ValueError as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from error
    tool = document.get("tool")
    return tool.get("autoinit") if isinstance(tool, dict) else None


def _configuration(values: object, file: Path) -> Configuration:
    table = _Table.of(values, _KEYS, file)
    root = file.parent
    return Configuration(
        root=root,
        file=file,
        models=_models(table, root),
        select=table.codes("select", some="select" in table.values),
        ignore=table.codes("ignore"),
        ignores=tuple(_ignores(table)),
        fail_level=Severity(table.one_of("fail-level", _LEVELS)),
        recipe=table.text("recipe", "auto"),
        baseline=table.path("baseline", root),
        tolerance=table.fraction("tolerance", TOLERANCE),
        format=table.one_of("format", formats.names("check")),
        output=table.path("output", root),
    )


def _models(table: _Table, root: Path) -> tuple[ModelEntry, ...]:
    entries: dict[str, ModelEntry] = {}
    for place, item in table.items("models", "an array of specs, and of tables that have a spec"):
        if not isinstance(item, (str, dict)):
            raise ConfigurationError(
                f'{table.file}: {_TABLE} {place} = {_shown(item)}; expected a spec such as "package.module:factory", '
                "or a table that has one"
            )
        entry = _model({"spec": item} if isinstance(item, str) else item, table.file, place, root)
        if entry.name in entries:
            raise ConfigurationError(
                f"{table.file}: {_TABLE} {place} = {_shown(item)}; expected a name of its own: "
                f"another model is called {entry.name!r}; add name = ..."
            )
        entries[entry.name] = entry
    return tuple(entries.values())


def _model(value: object, file: Path, place: str, root: Path) -> ModelEntry:
    table = _Table.of(value, _MODEL_KEYS, file, place)
    spec = table.text("spec", expected='a spec such as "package.module:factory"')
    arguments = table.values.get("arguments", {})
    if not isinstance(arguments, dict):
        raise table.refusal("arguments", "a table of the factory's arguments, such as { depth = 18 }")
    return ModelEntry(
        spec=_located(spec, root),
        name=table.text("name", spec),
        arguments=arguments,
        weights=table.path("weights", root),
        input_shape=table.shapes("input-shape"),
        recipe=table.text("recipe", ""),
        trust=table.flag("trust"),
        max_size=table.count("max-size"),
    )


def _ignores(table: _Table) -> Iterator[Ignore]:
    for place, item in table.items("ignores", "an array of tables with layer, codes and reason"):
        entry = _Table.of(item, _IGNORE_KEYS, table.file, place)
        yield Ignore(
            layer=entry.text("layer", expected='the glob of layer names, such as "encoder.*"'),
            codes=entry.codes("codes", some=True),
            reason=entry.text("reason", expected="a sentence that says why these findings may stand"),
            model=entry.text("model", "*"),
        )


def _located(spec: str, root: Path) -> str:
    """The spec with its file, if it names one, found from the root: FILE, FILE.py:FACTORY or hf:DIRECTORY."""
    source, colon, name = spec.rpartition(":")
    if not colon:
        return str(root / spec)
    if source.endswith(".py"):
        return f"{root / source}:{name}"
    if source == "hf" and os.path.exists(root / name):
        return f"hf:{root / name}"
    return spec


def _any_of(choices: Iterable[str]) -> str:
    *others, last = (json.dumps(choice) for choice in choices)
    return f"{', '.join(others)} or {last}"


def _shown(value: object) -> str:
    """A value as TOML would write it, nearly, and not at length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
