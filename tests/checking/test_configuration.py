"""`[tool.autoinit]`: where it is found, what it means, what is refused; and which findings it lets through."""

import re
from pathlib import Path

import pytest

from autoinit.checking.configuration import (
    Configuration,
    ModelEntry,
    load_configuration,
)
from autoinit.checking.findings import CheckResult, Finding
from autoinit.checking.selecting import Ignore, Selection, enabled_codes, join_unused, select
from autoinit.checking.toml_tables import parse_shape
from autoinit.errors import AutoinitError, ConfigurationError

CODES = ("INI001", "INI101", "INI103", "INI104", "INI201", "INI202")

FULL = """
[project]
name = "theirs"

[tool.autoinit]
models = [
    "pkg.models:small",
    "pkg/file.py:build",
    "saved/model.pt",
    { spec = "pkg.models:big", name = "big", weights = "w/big.safetensors", recipe = "gpt2", input-shape = [
        "1,3,224,224", "1,128:int64",
    ], trust = true, arguments = { depth = 18, act = "gelu" } },
    { spec = "timm:resnet18", input-shape = "1, 3, 64, 64" },
]
select = ["INI"]
ignore = ["INI2", "INI103"]
fail-level = "warning"
recipe = "timm"
baseline = "ci/baseline.json"
tolerance = 0.25
format = "sarif"
output = "out/check.sarif"

[[tool.autoinit.ignores]]
layer = "encoder.*"
codes = ["INI1"]
reason = "as in the paper"

[[tool.autoinit.ignores]]
layer = "*"
codes = ["INI201", "INI202"]
model = "b*"
reason = "biases are loaded later"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A directory to work in, with no pyproject.toml of its own or above that has the table."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(root: Path, body: str, name: str = "pyproject.toml") -> Configuration:
    (root / name).write_text(f"[tool.autoinit]\n{body}\n", encoding="utf-8")
    return load_configuration(root / name)


class TestValues:
    def test_every_key(self, project):
        (project / "pyproject.toml").write_text(FULL)
        configuration = load_configuration()
        assert configuration == Configuration(
            root=project,
            file=project / "pyproject.toml",
            models=(
                ModelEntry("pkg.models:small", "pkg.models:small"),
                ModelEntry(f"{project}/pkg/file.py:build", "pkg/file.py:build"),
                ModelEntry(f"{project}/saved/model.pt", "saved/model.pt"),
                ModelEntry(
                    "pkg.models:big",
                    "big",
                    {"depth": 18, "act": "gelu"},
                    project / "w/big.safetensors",
                    (((1, 3, 224, 224), ""), ((1, 128), "int64")),
                    "gpt2",
                    True,
                ),
                ModelEntry("timm:resnet18", "timm:resnet18", input_shape=(((1, 3, 64, 64), ""),)),
            ),
            select=("INI",),
            ignore=("INI2", "INI103"),
            ignores=(
                Ignore("encoder.*", ("INI1",), "as in the paper"),
                Ignore("*", ("INI201", "INI202"), "biases are loaded later", "b*"),
            ),
            fail_level="warning",
            recipe="timm",
            baseline=project / "ci/baseline.json",
            tolerance=0.25,
            format="sarif",
            output=project / "out/check.sarif",
        )
        assert [configuration.recipe_of(model) for model in configuration.models[2:4]] == ["timm", "gpt2"]

    def test_defaults(self, project):
        configuration = configured(project, "")
        assert configuration == Configuration(project, project / "pyproject.toml")
        assert (configuration.fail_level, configuration.tolerance, configuration.format) == ("error", 0.10, "text")
        assert (configuration.models, configuration.select, configuration.baseline) == ((), (), None)

    def test_a_directory_of_a_library_is_found_from_the_root_and_a_name_is_left_alone(self, project):
        (project / "checkpoint").mkdir()
        entries = configured(project, 'models = ["hf:checkpoint", "hf:gpt2"]').models
        assert [entry.spec for entry in entries] == [f"hf:{project}/checkpoint", "hf:gpt2"]

    def test_absolute_paths_stay(self, project):
        configuration = configured(project, 'baseline = "/ci/b.json"\nmodels = ["/models/m.py:f", "/models/m.pt"]')
        assert configuration.baseline == Path("/ci/b.json")
        assert [entry.spec for entry in configuration.models] == ["/models/m.py:f", "/models/m.pt"]


class TestSearch:
    def test_nearest_file_that_has_the_table(self, project, monkeypatch):
        inner = project / "a" / "b"
        inner.mkdir(parents=True)
        (project / "pyproject.toml").write_text('[tool.autoinit]\nbaseline = "b.json"')
        (project / "a" / "pyproject.toml").write_text('[tool.ruff]\nline-length = 120\n[project]\nname = "x"')
        monkeypatch.chdir(inner)
        configuration = load_configuration()
        assert configuration.root == project
        assert configuration.baseline == project / "b.json"

    def test_inner_table_hides_the_outer(self, project, monkeypatch):
        inner = project / "a"
        inner.mkdir()
        (project / "pyproject.toml").write_text('[tool.autoinit]\nrecipe = "outer"')
        (inner / "pyproject.toml").write_text("[tool.autoinit]\n")
        monkeypatch.chdir(inner)
        assert load_configuration().recipe == "auto"

    def test_no_file(self, project):
        assert load_configuration() == Configuration(project)

    def test_named_file_of_any_name_relative_to_the_working_directory(self, project):
        (project / "ci").mkdir()
        (project / "ci" / "check.toml").write_text('[tool.autoinit]\noutput = "o.txt"')
        assert load_configuration(Path("ci/check.toml")).output == project / "ci" / "o.txt"


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ('fail_level = "error"', '[tool.autoinit] unknown key fail_level = "error"; did you mean fail-level?'),
            ('slect = ["INI1"]', 'unknown key slect = ["INI1"]; did you mean select? expected one of the keys models,'),
            ("zzz = 1", "unknown key zzz = 1; expected one of the keys models, select"),
            ('fail-level = "fatal"', 'fail-level = "fatal"; expected "error", "warning" or "info"'),
            ("format = 3", 'format = 3; expected "text", "json", "github", "sarif", "junit", "markdown" or "html"'),
            ("tolerance = 1.0", "tolerance = 1.0; expected a number between 0 and 1"),
            ("tolerance = -0.1", "tolerance = -0.1; expected a number between 0"),
            ("tolerance = 0", "tolerance = 0; expected a number between 0"),
            ("tolerance = nan", "tolerance = NaN; expected a number between 0"),
            ('tolerance = "10 %"', 'tolerance = "10 %"; expected a number'),
            ("tolerance = true", "tolerance = true; expected a number"),
            ('select = "INI1"', 'select = "INI1"; expected an array of codes'),
            ("select = []", "select = []; expected an array of codes"),
            ("ignore = [101]", "ignore[0] = 101; expected a code or its beginning"),
            ('ignore = ["INI1", ""]', 'ignore[1] = ""; expected a code or its beginning'),
            ('recipe = " "', 'recipe = " "; expected a text that is not empty'),
            ("baseline = true", "baseline = true; expected a path"),
            ('models = "pkg:build"', 'models = "pkg:build"; expected an array of specs'),
            ("models = [1]", 'models[0] = 1; expected a spec such as "package.module:factory", or a table'),
            ('models = [{ name = "x" }]', "[tool.autoinit] models[0] has no spec; expected a spec such as"),
            ('models = [""]', 'models[0].spec = ""; expected a spec'),
            (
                'models = ["a:b", { spec = "c:d", input_shape = "1,3" }]',
                'unknown key models[1].input_shape = "1,3"; did you mean input-shape?',
            ),
            ('models = [{ spec = "a:b", input-shape = "1x3" }]', 'models[0].input-shape = "1x3"; expected a shape'),
            ('models = [{ spec = "a:b", input-shape = [1, 3] }]', "models[0].input-shape = [1, 3]; expected a shape"),
            ('models = [{ spec = "a:b", input-shape = 3 }]', "models[0].input-shape = 3; expected a shape"),
            ('models = [{ spec = "a:b", input-shape = "1,3:long" }]', "dtypes are float32,"),
            ('models = [{ spec = "a:b", trust = "yes" }]', 'models[0].trust = "yes"; expected true or false'),
            ('models = [{ spec = "a:b", arguments = ["x=1"] }]', 'models[0].arguments = ["x=1"]; expected a table'),
            ('models = ["a:b", "a:b"]', 'models[1] = "a:b"; expected a name of its own: another model is called'),
            ("ignores = 3", "ignores = 3; expected an array of tables with layer, codes and reason"),
            ('ignores = ["INI1"]', '[tool.autoinit] ignores[0] = "INI1"; expected a table'),
            (
                'ignores = [{ layer = "a", codes = ["INI1"] }]',
                "ignores[0] has no reason; expected a sentence that says why these findings may stand",
            ),
            ('ignores = [{ layer = "a", codes = ["INI1"], reason = "" }]', 'ignores[0].reason = ""; expected'),
            ('ignores = [{ layer = "a", reason = "r" }]', "ignores[0] has no codes; expected an array of codes"),
            ('ignores = [{ layer = "a", codes = [], reason = "r" }]', "ignores[0].codes = []; expected an array of"),
            ('ignores = [{ codes = ["INI1"], reason = "r" }]', "ignores[0] has no layer; expected the glob of layer"),
            (
                'ignores = [{ layers = "a", codes = ["INI1"], reason = "r" }]',
                'unknown key ignores[0].layers = "a"; did you mean layer?',
            ),
        ],
    )  # fmt: skip
    def test_names_file_key_value_and_what_was_expected(self, project, body, message):
        with pytest.raises(ConfigurationError, match=re.escape(message)) as caught:
            configured(project, body)
        assert str(caught.value).startswith(f"{project / 'pyproject.toml'}: ")
        assert "\n" not in str(caught.value)

    def test_long_values_are_cut(self, project):
        with pytest.raises(ConfigurationError, match=r"x{90,100} \.\.\.; expected"):
            configured(project, f'fail-level = "{"x" * 5000}"')

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"[tool.autoinit\n", "not TOML: .*line 1"),
            (b"[tool.autoinit]\nselect = [\n", "not TOML"),
            (b'[tool.autoinit]\nrecipe = "\xff"\n', "not TOML: .*utf-8"),
        ],
    )
    def test_broken_toml(self, project, content, message):
        (project / "pyproject.toml").write_bytes(content)
        with pytest.raises(ConfigurationError, match=rf"pyproject\.toml: {message}"):
            load_configuration()

    @pytest.mark.parametrize("content", ["", "[project]\nname = 'x'", "tool = 3"])
    def test_named_file_without_the_table(self, project, content):
        (project / "other.toml").write_text(content)
        with pytest.raises(ConfigurationError, match=r"other\.toml: no table \[tool\.autoinit\]; expected one"):
            load_configuration(Path("other.toml"))

    def test_table_that_is_none(self, project):
        (project / "pyproject.toml").write_text("[tool]\nautoinit = 3")
        with pytest.raises(ConfigurationError, match=r"\[tool\.autoinit\] = 3; expected a table"):
            load_configuration()

    def test_missing_named_file(self, project):
        with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read: No such file"):
            load_configuration(Path("nowhere.toml"))

    def test_directory(self, project):
        with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
            load_configuration(project)

    def test_is_an_error_of_autoinit_and_of_value(self):
        assert issubclass(ConfigurationError, AutoinitError)
        assert issubclass(ConfigurationError, ValueError)


class TestOverriding:
    def test_nothing_given_changes_nothing(self, project):
        (project / "pyproject.toml").write_text(FULL)
        configuration = load_configuration()
        assert configuration.overridden() == configuration

    def test_given_values_win_and_lists_replace(self, project):
        (project / "pyproject.toml").write_text(FULL)
        configuration = load_configuration().overridden(
            select=("INI0",),
            ignore=("INI001",),
            fail_level="info",
            baseline=Path("here.json"),
            tolerance=0.5,
            format="json",
            output=Path("o.json"),
        )
        assert configuration.select == ("INI0",)
        assert configuration.ignore == ("INI001",)
        assert (configuration.fail_level, configuration.tolerance, configuration.format) == ("info", 0.5, "json")
        assert (configuration.baseline, configuration.output) == (Path("here.json"), Path("o.json"))
        assert (len(configuration.models), len(configuration.ignores), configuration.recipe) == (5, 2, "timm")

    def test_recipe_holds_for_every_model(self, project):
        (project / "pyproject.toml").write_text(FULL)
        configuration = load_configuration().overridden(recipe="he")
        assert {configuration.recipe_of(model) for model in configuration.models} == {"he"}

    def test_models_by_name_by_spec_and_new(self, project, monkeypatch):
        (project / "pyproject.toml").write_text(FULL)
        (project / "pkg").mkdir()
        monkeypatch.chdir(project / "pkg")
        configuration = load_configuration().overridden(models=("big", "timm:resnet18", "file.py:build", "new.py:f"))
        assert [(entry.name, entry.spec) for entry in configuration.models] == [
            ("big", "pkg.models:big"),
            ("timm:resnet18", "timm:resnet18"),
            ("pkg/file.py:build", f"{project}/pkg/file.py:build"),
            ("new.py:f", "new.py:f"),
        ]
        assert configuration.models[0].arguments == {"depth": 18, "act": "gelu"}
        assert configuration.models[1].input_shape == (((1, 3, 64, 64), ""),)

    def test_a_spec_that_several_models_share_names_them_all(self, project):
        body = 'models = ["a:b", { spec = "c:d", name = "one" }, { spec = "c:d", name = "two", arguments = { x = 1 } }]'
        chosen = configured(project, body).overridden(models=("c:d",)).models
        assert [entry.name for entry in chosen] == ["one", "two"]

    def test_a_model_named_twice_is_checked_once(self, project):
        assert len(Configuration(project).overridden(models=("a:b", "a:b")).models) == 1

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"tolerance": 1.5}, r"tolerance=1\.5; expected a number between 0"),
            ({"fail_level": "fatal"}, 'fail_level=\'fatal\'; expected "error", "warning" or "info"'),
            ({"format": "xml"}, "format='xml'; expected \"text\""),
        ],
    )
    def test_values_out_of_range(self, project, given, message):
        with pytest.raises(ConfigurationError, match=message):
            Configuration(project).overridden(**given)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("1,3,224,224", ((1, 3, 224, 224), "")),
        ("7", ((7,), "")),
        (" 1 , 128 : int64 ", ((1, 128), "int64")),
        ("1,0,3", None),
        ("1,-3", None),
        ("1,3,", None),
        ("1,3:", None),
        ("1,3:quaternion", ((1, 3), "quaternion")),  # whoever asks knows which dtypes there are
        ("1,3:int 8", None),
        ("", None),
    ],
)
def test_shapes(text, shape):
    assert parse_shape(text) == shape


def finding(code: str, layer: str = "conv1", severity: str = "warning") -> Finding:
    return Finding(code, severity, layer, f"{layer}.weight", f"{layer}: off")


class TestEnabledCodes:
    @pytest.mark.parametrize(
        ("selected", "ignored", "enabled"),
        [
            ((), (), CODES),
            (("INI",), (), CODES),
            (("ini1",), (), ("INI101", "INI103", "INI104")),
            ((), ("INI2", "INI103"), ("INI001", "INI101", "INI104")),
            (("INI1",), ("INI",), ("INI101", "INI103", "INI104")),
            (("INI1",), ("INI103",), ("INI101", "INI104")),
            (("INI", "INI103"), ("INI1",), ("INI001", "INI103", "INI201", "INI202")),
            (("INI103",), ("INI103",), ()),
            (("INI2", "INI202"), ("INI20",), ("INI202",)),
        ],
    )
    def test_longest_prefix_decides(self, selected, ignored, enabled):
        assert enabled_codes(CODES, selected, ignored) == set(enabled)

    def test_unknown_prefix(self):
        message = (
            r"select: no rule's code begins with 'INI999'; .*one of INI001, INI101, INI103, INI104, INI201, INI202$"
        )
        with pytest.raises(ConfigurationError, match=message):
            enabled_codes(CODES, ("INI1", "INI999"))
        with pytest.raises(ConfigurationError, match="ignore: no rule's code begins with 'INI012'; did you mean INI"):
            enabled_codes(CODES, (), ("INI012",))
        with pytest.raises(ConfigurationError, match="ignore: no rule's code begins with ''"):
            enabled_codes(CODES, (), ("",))


class TestSelecting:
    def test_findings_of_rules_that_are_not_selected_are_left_out(self):
        first, second, third = finding("INI101"), finding("INI201"), finding("INI104")
        assert select([first, second, third], (), ("INI2",), (), "m", CODES) == Selection((first, third))

    def test_an_ignore_takes_out_its_layers_and_keeps_its_reason(self):
        ignore = Ignore("encoder.*", ("INI10",), "as in the paper")
        inside, outside, other = (
            finding("INI103", "encoder.0"),
            finding("INI103", "head"),
            finding("INI201", "encoder.0"),
        )
        selection = select([inside, outside, other], (), (), (ignore,), "m", CODES)
        assert selection.kept == (outside, other)
        assert [(each.finding, each.by) for each in selection.suppressed] == [
            (inside, "ignore of INI10 for layer encoder.* (as in the paper)")
        ]
        assert selection.unused_ignores == ()

    def test_an_ignore_of_another_model_does_nothing(self):
        ignore = Ignore("*", ("ini1",), "r", model="big*")
        one = finding("INI103")
        assert select([one], (), (), (ignore,), "small", CODES) == Selection((one,))
        assert select([one], (), (), (ignore,), "bigger", CODES).kept == ()

    def test_all_ignores_that_fit_are_used_and_the_first_is_named(self):
        ignores = (Ignore("conv*", ("INI103",), "one"), Ignore("*", ("INI1",), "two"))
        selection = select([finding("INI103")], (), (), ignores, "m", CODES)
        assert selection.suppressed[0].by.endswith("(one)")
        assert selection.unused_ignores == ()

    def test_names_are_matched_with_case(self):
        selection = select([finding("INI103", "Conv")], (), (), (Ignore("conv", ("INI1",), "r"),), "m", CODES)
        assert len(selection.kept) == 1

    def test_unused_ignores_are_named(self):
        selection = select([finding("INI104")], (), (), (Ignore("head", ("INI103",), "tied"),), "m", CODES)
        expected = "unused ignore of INI103 for layer head (tied): no such finding; remove it"
        assert selection.unused_ignores == (expected,)

    def test_an_ignore_whose_rules_were_not_all_selected_is_not_judged(self):
        ignores = (Ignore("head", ("INI1",), "a"), Ignore("head", ("INI101",), "b"))
        (unused,) = select([finding("INI201")], (), ("INI103",), ignores, "m", CODES).unused_ignores
        assert "(b)" in unused

    def test_unknown_code_of_an_ignore(self):
        with pytest.raises(ConfigurationError, match="ignores, layer 'a': no rule's code begins with 'INI9'"):
            select([], (), (), (Ignore("a", ("INI9",), "r"),), "m", CODES)


def checked(model: str, *findings: Finding, ignores, ignored=()) -> CheckResult:
    selection = select(findings, (), ignored, ignores, model, CODES)
    return CheckResult(model, selection.kept, selection.suppressed, selection.unused_ignores)


class TestUnusedOverModels:
    def test_only_what_no_model_used_and_only_once(self):
        ignores = (Ignore("conv1", ("INI103",), "a"), Ignore("conv9", ("INI103",), "b"))
        results = (checked("one", finding("INI103"), ignores=ignores), checked("two", ignores=ignores))
        assert [len(result.unused_ignores) for result in results] == [1, 2]
        joined = join_unused(results, ignores)
        assert joined[0].unused_ignores == ("unused ignore of INI103 for layer conv9 (b): no such finding; remove it",)
        assert joined[1].unused_ignores == ()
        assert joined[0].suppressed == results[0].suppressed

    def test_at_the_model_that_it_is_for(self):
        ignores = (Ignore("*", ("INI103",), "r", model="two"),)
        joined = join_unused([checked(name, ignores=ignores) for name in ("one", "two")], ignores)
        assert [len(result.unused_ignores) for result in joined] == [0, 1]

    def test_an_ignore_of_a_model_that_is_not_there(self):
        ignores = (Ignore("*", ("INI103",), "r", model="gone"),)
        results = [checked("here", finding("INI103"), ignores=ignores)]
        assert join_unused(results, ignores)[0].unused_ignores == (
            "unused ignore of INI103 for layer * of model gone (r): no model of this name; remove it",
        )

    def test_nothing_is_said_of_models_that_were_not_checked(self):
        ignores = (Ignore("*", ("INI103",), "r", model="b*"), Ignore("*", ("INI103",), "r", model="a*"))
        results = [checked("abc", ignores=ignores)]
        (unused,) = join_unused(results, ignores, unchecked=("bcd",))[0].unused_ignores
        assert "of model a*" in unused

    def test_nothing_is_said_of_what_was_not_judged(self):
        ignores = (Ignore("*", ("INI103",), "r"),)
        assert join_unused([checked("m", ignores=ignores, ignored=("INI1",))], ignores)[0].unused_ignores == ()

    def test_no_results(self):
        assert join_unused((), (Ignore("*", ("INI103",), "r"),)) == ()
