"""Ways to a check in Python: the package's public names, the assertion, and the pytest fixture."""

import ast
import importlib
import importlib.metadata
import inspect
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import autoinit
from autoinit import testing
from autoinit.checking.baselines import baseline_of
from autoinit.errors import (
    ArgumentError,
    CallbackError,
    ConfigurationError,
    TraceError,
)
from autoinit.testing import assert_well_initialized
from tests.shared.models.rectified import WIDTH, build, build_well

ROOT = Path(__file__).parents[2]
TORCHS = 1 / math.sqrt(3 * WIDTH)  # kaiming_uniform_(a=sqrt(5)): bound 1 / sqrt(fan_in), std bound / sqrt(3)
HE = math.sqrt(2 / WIDTH)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# The package


def parsed_init() -> ast.Module:
    return ast.parse((ROOT / "autoinit" / "__init__.py").read_text(encoding="utf-8"))


def imported_names(statements: list[ast.stmt]) -> dict[str, str]:
    """Name to module, of the `from` imports of autoinit's own among these."""
    return {
        alias.asname or alias.name: node.module
        for node in statements
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "autoinit"
        for alias in node.names
    }


def test_what_type_checkers_see_is_what_is_imported():
    body = parsed_init().body
    (checked,) = (
        node.body
        for node in body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    for_checkers = imported_names(checked)
    modules = {name for name, module in for_checkers.items() if module == "autoinit"}
    assert modules == {"callbacks", "testing"}
    lazy = {name: module for name, module in for_checkers.items() if name not in modules}
    assert lazy == autoinit._HOMES
    assert sorted({*lazy, *imported_names(body)}) == sorted(autoinit.__all__)


def test_a_public_name_is_the_object_of_its_home():
    for name, module in autoinit._HOMES.items():
        assert getattr(autoinit, name) is getattr(importlib.import_module(module), name)
    assert set(autoinit.__all__) <= set(dir(autoinit))


def test_no_public_name_is_that_of_a_module():
    modules = {path.stem for path in (ROOT / "autoinit").iterdir() if path.suffix in ("", ".py")}
    assert modules.isdisjoint(autoinit.__all__)


def test_star_import_brings_the_public_names():
    namespace: dict[str, object] = {}
    exec("from autoinit import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(autoinit.__all__)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'autoinit' has no attribute 'chekc'"):
        autoinit.chekc  # noqa: B018 - the access is what is tested
    assert not hasattr(autoinit, "_nothing")


def test_public_classes_can_be_pickled():
    classes = [each for name in autoinit.__all__ if inspect.isclass(each := getattr(autoinit, name))]
    assert len(classes) > 25
    assert [pickle.loads(pickle.dumps(each)) for each in classes] == classes
    finding = autoinit.Finding(
        "INI101", "error", "fc", "fc.weight", "fc: std 1", location=autoinit.SourceLine("a.py", 1, "")
    )
    assert pickle.loads(pickle.dumps(finding)) == finding


def test_every_error_is_public():
    from autoinit import errors

    found = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert found <= set(autoinit.__all__)


def test_modules_of_the_package_are_attributes_from_the_start():
    script = (
        "import autoinit; print(autoinit.testing.assert_well_initialized.__name__, autoinit.ops.WeightSlot.__name__)"
    )
    assert python(script) == "assert_well_initialized WeightSlot\n"


def python(script: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_plugin_and_the_command_load_without_torch():
    heavy = ("torch", "numpy", "networkx", "rich", "msgspec")
    script = (
        "import sys, pytest; before = set(sys.modules); import autoinit.pytest_plugin;"
        "plugin = set(sys.modules) - before; import autoinit.cli; dir(autoinit);"
        f"print(sorted(plugin), sorted(set({heavy!r}) & set(sys.modules) - before))"
    )
    told = python(script)
    assert told.endswith(" []\n"), told
    modules = ast.literal_eval(told.rpartition(" [")[0])
    assert {each for each in modules if each.startswith("autoinit.")} == {
        "autoinit._escaping", "autoinit._version", "autoinit.checking", "autoinit.checking.configuration",
        "autoinit.checking.findings", "autoinit.checking.selecting", "autoinit.checking.toml_tables", "autoinit.errors",
        "autoinit.errors.arguments", "autoinit.formats",
        "autoinit.pytest_plugin",
    }  # fmt: skip


# The assertion


def test_a_model_that_starts_well_passes_and_gives_the_result():
    result = assert_well_initialized(build_well())
    assert isinstance(result, autoinit.CheckResult)
    assert (result.model, result.layers, result.ok) == ("Sequential", 3, True)


def test_a_failure_names_rule_layer_both_stds_and_what_to_do():
    with pytest.raises(AssertionError, match="is not well initialized") as caught:
        assert_well_initialized(build())
    text = " ".join(str(caught.value).split())
    stds = [tuple(map(float, each)) for each in re.findall(r"INI103 error: [02]: std (\S+), expected (\S+) ", text)]
    assert stds == [(pytest.approx(TORCHS, rel=0.02), pytest.approx(HE, rel=0.005))] * 2
    assert "kaiming_normal_(model[0].weight" in text
    assert "2 errors in 3 layers" in text


def test_a_factory_is_recorded_so_that_findings_name_the_line():
    line = inspect.getsourcelines(build)[1] + 3
    with pytest.raises(AssertionError, match=rf"rectified\.py:{line}: INI103 error: 0: "):
        assert_well_initialized(build)
    assert assert_well_initialized(build_well).ok


def test_a_class_is_a_factory():
    class Net(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))

    with pytest.raises(AssertionError, match=r"^Net is not well initialized"):
        assert_well_initialized(Net)


def test_the_fail_level_decides_and_what_is_milder_is_counted():
    model = build_well()
    nn.init.constant_(model[0].bias, 0.5)  # INI201, an info
    result = assert_well_initialized(model)
    assert [each.code for each in result.findings] == ["INI201"]
    with pytest.raises(AssertionError, match="INI201 info: 0"):
        assert_well_initialized(model, fail_level="info")
    nn.init.constant_(model[4].weight, math.nan)
    with pytest.raises(AssertionError, match=r"Milder than error, and not shown: 1$") as caught:
        assert_well_initialized(model)
    assert "INI201" not in str(caught.value)


def test_options_reach_the_check():
    assert assert_well_initialized(build(), select=["INI0"]).findings == ()
    assert assert_well_initialized(build(), ignore=["INI1", "INI2"]).findings == ()
    assert assert_well_initialized(build_well(), (2, WIDTH), name="net", recipe="none", tolerance=0.2).model == "net"
    with pytest.raises(ConfigurationError, match="no rule's code begins with 'XYZ'"):
        assert_well_initialized(build(), select=["XYZ"])


def test_every_option_of_the_check_can_be_given():
    explicit = {"model", "example_inputs", "fail_level"}
    assert set(inspect.signature(autoinit.check).parameters) == explicit | set(testing.CheckOptions.__annotations__)


def test_nothing_to_check_is_a_failure_unless_it_is_meant():
    with pytest.raises(AssertionError, match=r"ReLU has no weight layers, so nothing was checked.*allow_empty=True"):
        assert_well_initialized(nn.ReLU())
    assert assert_well_initialized(nn.ReLU(), allow_empty=True).layers == 0
    with torch.device("meta"):
        model = build()
    with pytest.raises(AssertionError, match=r"Sequential is on the meta device.*nothing was checked"):
        assert_well_initialized(model)
    assert assert_well_initialized(model, allow_empty=True).layers == 0


def test_an_exported_program_is_a_model():
    program = torch.export.export(build(), (torch.zeros(2, WIDTH),))
    with pytest.raises(AssertionError, match="INI103 error: 0"):
        assert_well_initialized(program)
    assert assert_well_initialized(lambda: torch.export.export(build_well(), (torch.zeros(2, WIDTH),))).layers == 3


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (3, r"model is a int: expected a torch\.nn\.Module"),
        (lambda: [1], r"<lambda> gave a list: expected a function that gives a torch\.nn\.Module"),
    ],
)
def test_what_is_no_model(model, message):
    with pytest.raises(ArgumentError, match=message):
        assert_well_initialized(model)


def test_a_factory_brings_its_own_record():
    with autoinit.recording() as log:
        model = build()
    with pytest.raises(AssertionError, match=r"rectified\.py:\d+: INI103"):
        assert_well_initialized(model, provenance=log)
    with pytest.raises(ArgumentError, match="provenance: a factory is recorded as it is called"):
        assert_well_initialized(build, provenance=log)


def test_a_failing_factory_is_named():
    def broken():
        raise KeyError("no such width")

    with pytest.raises(CallbackError, match=r"^broken\(\) failed at .*points\.py:\d+: KeyError: 'no such width'"):
        assert_well_initialized(broken)


def test_a_model_that_cannot_be_traced():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 4)

    with pytest.raises(TraceError, match="Silent could not be traced"):
        assert_well_initialized(Silent())


def test_findings_of_a_baseline_do_not_fail(tmp_path):
    file = tmp_path / "baseline.json"
    file.write_text(baseline_of([autoinit.check(build(), name="net")]).to_json(), encoding="utf-8")
    result = assert_well_initialized(build(), name="net", baseline=file)
    assert {each.by for each in result.suppressed} == {"baseline"}
    assert [each.finding.layer for each in result.suppressed if each.finding.severity == "error"] == ["0", "2"]
    with pytest.raises(AssertionError, match="INI103 error: 0"):
        assert_well_initialized(build(), name="another", baseline=file)
    gone = assert_well_initialized(build_well(), name="net", baseline=str(file))
    assert [each for each in gone.notes if f"of the baseline {file} no longer occur" in each]
    with pytest.raises(ConfigurationError, match="no such baseline"):
        assert_well_initialized(build(), baseline=tmp_path / "none.json")


# The pytest plugin

NETS = """\
from torch import nn

def build(std=None):
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    for layer in (model[0], model[2]):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    nn.init.xavier_normal_(model[4].weight)
    nn.init.zeros_(model[4].bias)
    if std is not None:
        nn.init.normal_(model[2].weight, std=std)
    return model
"""


def test_the_plugin_is_installed_under_its_name():
    (found,) = {each.value for each in importlib.metadata.entry_points(group="pytest11") if each.name == "autoinit"}
    assert found == "autoinit.pytest_plugin"


def test_the_fixture_in_a_fresh_project(pytester):
    pytester.makepyfile(
        nets=NETS,
        test_nets="""
            from nets import build

            def test_good(assert_well_initialized):
                assert assert_well_initialized(build).layers == 3

            def test_bad(assert_well_initialized):
                assert_well_initialized(lambda: build(std=1.0))

            def test_bad_and_known(assert_well_initialized):
                assert_well_initialized(lambda: build(std=1.0), ignore=["INI1"])
        """,
    )
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.re_match_lines([r"E +nets\.py:11: INI\d+ error: 2: std (1|0\.99\d*|1\.0\d*), expected 0\.0884 .*"])
    result.stdout.fnmatch_lines(["test_nets.py:7: AssertionError"])
    result.stdout.no_fnmatch_line("*testing.py*")


def test_the_fixture_takes_the_configuration_of_the_project(pytester):
    pytester.makepyprojecttoml(
        """
        [tool.pytest.ini_options]
        testpaths = ["tests"]
        pythonpath = ["."]

        [tool.autoinit]
        fail-level = "info"
        ignore = ["INI202"]
        recipe = "none"
        models = [{ spec = "nets:build", name = "net", recipe = "gpt2" }]

        [[tool.autoinit.ignores]]
        layer = "2"
        codes = ["INI1"]
        reason = "wide on purpose"
        """
    )
    pytester.makepyfile(nets=NETS)
    pytester.makepyfile(
        **{
            "tests/test_nets": """
                import pytest
                from nets import build
                from torch import nn

                @pytest.fixture(autouse=True)
                def elsewhere(tmp_path, monkeypatch):
                    monkeypatch.chdir(tmp_path)

                def off(bias):
                    model = build(std=1.0)
                    nn.init.constant_(model[0].bias, bias)
                    return model

                def test_ignored(assert_well_initialized):
                    result = assert_well_initialized(off(0.0))
                    assert [each.by for each in result.suppressed if each.finding.severity == "error"] == [
                        "ignore of INI1 for layer 2 (wide on purpose)"
                    ]
                    assert result.recipe == ""

                def test_level_of_configuration(assert_well_initialized):
                    assert_well_initialized(off(0.5))

                def test_level_of_the_call(assert_well_initialized):
                    assert assert_well_initialized(off(0.5), fail_level="error").findings

                def test_recipe_of_the_model(assert_well_initialized):
                    result = assert_well_initialized(off(0.0), name="net", select=["INI0"])
                    assert result.recipe.startswith("gpt2")
            """
        }
    )
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider", "-rA")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["E *INI201 info: 0*", "FAILED *::test_level_of_configuration*"])


def test_the_command_line_goes_before_the_configured_level(pytester):
    pytester.makepyprojecttoml('[tool.autoinit]\nfail-level = "info"\n')
    pytester.makepyfile(
        nets=NETS,
        test_nets="""
            from nets import build
            from torch import nn

            def test_bias(assert_well_initialized):
                model = build()
                nn.init.constant_(model[0].bias, 0.5)
                assert_well_initialized(model)
        """,
    )
    options = ("-W", "error", "-p", "no:cacheprovider", "--autoinit-fail-level=warning")
    pytester.runpytest_subprocess(*options).assert_outcomes(passed=1)


def test_a_broken_configuration_and_no_torch_before_it(pytester):
    pytester.makepyprojecttoml('[tool.autoinit]\nfail_level = "info"\n')
    pytester.makepyfile(
        """
        import sys

        def test_without():
            assert not {"torch", "numpy", "networkx"} & set(sys.modules)

        def test_with(assert_well_initialized):
            pass
        """
    )
    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["E *ConfigurationError: *pyproject.toml: *unknown key fail_level*did you mean fail-level?*"]
    )
