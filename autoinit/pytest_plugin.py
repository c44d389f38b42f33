"""The pytest plugin: a fixture that checks models with the project's own configuration.

pytest loads it at the start of every run, so it imports nothing of weight before a test asks for the fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from autoinit.checking.configuration import Configuration
from autoinit.checking.findings import CheckResult, Severity

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from autoinit.models import Model
    from autoinit.testing import CheckOptions

_OPTION = "--autoinit-fail-level"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that overrides the configured fail level."""
    parser.getgroup("autoinit", "initialization of PyTorch models").addoption(
        _OPTION,
        choices=[level.value for level in Severity],
        help="mildest finding at which `assert_well_initialized` fails, where the test itself does not say; "
        "default: fail-level of [tool.autoinit], else error",
    )


@pytest.fixture(scope="session")
def assert_well_initialized(pytestconfig: pytest.Config) -> Callable[..., CheckResult]:
    """`autoinit.testing.assert_well_initialized`, as [tool.autoinit] of the project's pyproject.toml configures it.

    What a call says itself goes before that. `name="..."`, of a configured model, brings that model's recipe, ignores
    and known findings.
    """
    configuration = _configuration(pytestconfig)
    level = pytestconfig.getoption(_OPTION) or configuration.fail_level

    from autoinit import testing

    def assert_well_initialized(
        model: Model | Callable[[], Model],
        example_inputs: Any = None,
        *,
        fail_level: str = level,
        allow_empty: bool = False,
        baseline: str | Path | None = configuration.baseline,
        **options: Unpack[CheckOptions],
    ) -> CheckResult:
        __tracebackhide__ = True
        options = {**_options(configuration, options.get("name", "")), **options}
        return testing.assert_well_initialized(
            model, example_inputs, fail_level=fail_level, allow_empty=allow_empty, baseline=baseline, **options
        )

    return assert_well_initialized


def _configuration(config: pytest.Config) -> Configuration:
    """That of the project, wherever pytest was started."""
    from autoinit.checking.configuration import load_configuration

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(config.rootpath)
        return load_configuration()


def _options(configuration: Configuration, name: str) -> CheckOptions:
    named = [configuration.recipe_of(each) for each in configuration.models if name and each.name == name]
    return {
        "select": configuration.select,
        "ignore": configuration.ignore,
        "ignores": configuration.ignores,
        "recipe": named[0] if named else configuration.recipe,
        "tolerance": configuration.tolerance,
    }
