"""What to check and how: `[tool.autoinit]` of a pyproject.toml, and what the command line says over it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autoinit import formats
from autoinit.checking.findings import Severity
from autoinit.checking.selecting import Ignore
from autoinit.checking.toml_tables import BETWEEN, NAME, InputShape, TomlTable, any_of, shown
from autoinit.errors import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOLERANCE = 0.10

_FILE = "pyproject.toml"
_KEYS = (
    "models", "select", "ignore", "ignores", "fail-level", "recipe", "baseline", "tolerance", "format", "output",
)  # fmt: skip
_MODEL_KEYS = ("spec", "name", "arguments", "weights", "input-shape", "recipe", "trust", "max-size")
_IGNORE_KEYS = ("layer", "codes", "reason", "model")
_LEVELS = tuple(level.value for level in Severity)


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
            raise ConfigurationError(f"fail_level={fail_level!r}; expected {any_of(_LEVELS)}")
        if format is not None and format not in formats.names("check"):
            raise ConfigurationError(f"format={format!r}; expected {any_of(formats.names('check'))}")
        if tolerance is not None and not 0 < tolerance < 1:
            raise ConfigurationError(f"tolerance={tolerance}; expected {BETWEEN}")
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
            raise ConfigurationError(f"{path}: no table {NAME}; expected one, with keys such as models and select")
        return _configuration(table, path.resolve())
    directory = Path.cwd()
    for parent in (directory, *directory.parents):
        file = parent / _FILE
        if os.path.isfile(file) and (table := _table_of(file)) is not None:
            return _configuration(table, file)
    return Configuration(directory)


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
    table = TomlTable.of(values, _KEYS, file)
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


def _models(table: TomlTable, root: Path) -> tuple[ModelEntry, ...]:
    entries: dict[str, ModelEntry] = {}
    for place, item in table.items("models", "an array of specs, and of tables that have a spec"):
        if not isinstance(item, (str, dict)):
            raise ConfigurationError(
                f'{table.file}: {NAME} {place} = {shown(item)}; expected a spec such as "package.module:factory", '
                "or a table that has one"
            )
        entry = _model({"spec": item} if isinstance(item, str) else item, table.file, place, root)
        if entry.name in entries:
            raise ConfigurationError(
                f"{table.file}: {NAME} {place} = {shown(item)}; expected a name of its own: "
                f"another model is called {entry.name!r}; add name = ..."
            )
        entries[entry.name] = entry
    return tuple(entries.values())


def _model(value: object, file: Path, place: str, root: Path) -> ModelEntry:
    table = TomlTable.of(value, _MODEL_KEYS, file, place)
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


def _ignores(table: TomlTable) -> Iterator[Ignore]:
    for place, item in table.items("ignores", "an array of tables with layer, codes and reason"):
        entry = TomlTable.of(item, _IGNORE_KEYS, table.file, place)
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
