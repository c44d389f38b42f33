"""The hook for pre-commit and the action for GitHub: their files, and what the action's script runs."""

import importlib.metadata
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from autoinit.cli import main

ROOT = Path(__file__).parents[2]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
OPTIONS = {option for parameter in main.commands["check"].params for option in parameter.opts}


def test_the_hook_is_one_that_pre_commit_takes():
    (hook,) = HOOKS
    assert {"id", "name", "entry", "language"} <= set(hook)  # https://pre-commit.com/#creating-new-hooks
    optional = {
        "alias", "files", "exclude", "types", "types_or", "exclude_types", "additional_dependencies", "args",
        "always_run", "fail_fast", "pass_filenames", "description", "language_version", "log_file",
        "minimum_pre_commit_version", "require_serial", "stages", "verbose",
    }  # fmt: skip
    assert set(hook) <= optional | {"id", "name", "entry", "language"}
    assert (hook["id"], hook["language"], hook["types"]) == ("autoinit-check", "python", ["python"])
    assert hook["pass_filenames"] is False
    assert hook["require_serial"] is True
    program, command, *options = shlex.split(hook["entry"])
    assert program in {each.name for each in importlib.metadata.entry_points(group="console_scripts")}
    assert command in main.commands
    assert set(options) <= OPTIONS


def step(name: str) -> dict:
    (found,) = (each for each in ACTION["runs"]["steps"] if each["name"] == name)
    return found


def test_the_action_is_a_composite_action_in_full():
    assert set(ACTION) == {"name", "description", "inputs", "outputs", "runs"}
    assert ACTION["runs"]["using"] == "composite"
    for each in ACTION["runs"]["steps"]:
        assert each["shell"] == "bash"
    for each in ACTION["inputs"].values():
        assert set(each) == {"description", "default"}
        assert isinstance(each["default"], str)
    for each in ACTION["outputs"].values():
        assert re.fullmatch(r"\$\{\{ steps\.check\.outputs\.[a-z-]+ \}\}", each["value"])
    assert step("Check")["id"] == "check"


def test_no_input_is_part_of_a_script():
    used = set()
    for each in ACTION["runs"]["steps"]:
        assert "${{" not in each["run"]
        passed = {name: re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", value)[1] for name, value in each["env"].items()}
        assert all(f"${name}" in each["run"] or f"${{{name}" in each["run"] for name in passed)
        used |= set(passed.values())
    assert used == set(ACTION["inputs"]) - {"install"}
    assert step("Install autoinit")["if"] == "inputs.install == 'true'"


def test_every_option_that_the_action_gives_exists():
    given = set(re.findall(r"--[a-z-]+\b", step("Check")["run"]))
    assert given == {"--config", "--fail-level", "--format", "--output", "--exit-zero"}
    assert given <= OPTIONS
    mentioned = {
        each for one in ACTION["inputs"].values() for each in re.findall(r"--[a-z][a-z-]*", one["description"])
    }
    assert mentioned <= OPTIONS


STUB = """\
#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
arguments = sys.argv[1:]
if "--exit-zero" in arguments:
    open(arguments[arguments.index("--output") + 1], "w").close()
    sys.exit(int(os.environ.get("SARIF_STATUS", "0")))
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture
def act(tmp_path):
    """Runs a step of the action with inputs as GitHub does; gives status, commands that were run, and outputs."""
    stub = tmp_path / "bin" / "python"
    stub.parent.mkdir()
    stub.write_text(STUB.format(python=sys.executable), encoding="utf-8")
    stub.chmod(0o755)
    work = tmp_path / "work space"
    work.mkdir()
    script = tmp_path / "script.sh"

    def run(name="Check", env=(), **inputs):
        values = {key: each["default"] for key, each in ACTION["inputs"].items()}
        values |= {key.replace("_", "-"): value for key, value in inputs.items()}
        told = {
            variable: values[value.removeprefix("${{ inputs.").removesuffix(" }}")]
            for variable, value in step(name)["env"].items()
        }
        script.write_text(step(name)["run"], encoding="utf-8")
        calls, output = tmp_path / "calls", tmp_path / "output"
        for file in (calls, output):
            file.write_text("", encoding="utf-8")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=work,
            env={
                "PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}",
                "CALLS": str(calls),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_ACTION_PATH": "/action",
                **told,
                **dict(env),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        commands = [json.loads(line) for line in calls.read_text(encoding="utf-8").splitlines()]
        outputs = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
        return done.returncode, commands, outputs

    return run


CHECK = ["-m", "autoinit", "check"]


def test_the_action_annotates_the_configured_models_by_default(act):
    status, commands, outputs = act()
    assert commands == [[*CHECK, "--format", "github", "--output", "-", "--"]]
    assert (status, outputs) == (0, {"exit-code": "0"})


def test_inputs_of_the_action_arrive_as_they_are(act):
    _, commands, _ = act(
        specs="pkg.models:build\n  my models/net.py:make \n\n-odd:spec\r\n",
        config="a b/pyproject.toml",
        fail_level="warning",
        format="",
        output="out put.txt",
        args="--arg\nname=$(touch hacked)\n--recipe=`id`\n--ignore\n*\n\"quoted\" 'text'; exit 7",
    )
    assert commands == [
        [
            *CHECK,
            "--config", "a b/pyproject.toml", "--fail-level", "warning",
            "--arg", "name=$(touch hacked)", "--recipe=`id`", "--ignore", "*", "\"quoted\" 'text'; exit 7",
            "--output", "out put.txt",
            "--", "pkg.models:build", "my models/net.py:make", "-odd:spec",
        ]
    ]  # fmt: skip


@pytest.mark.parametrize("code", [1, 2])
def test_the_action_fails_as_the_check_does(act, code):
    status, commands, outputs = act(env={"STATUS": str(code)})
    assert (status, outputs, len(commands)) == (code, {"exit-code": str(code)}, 1)


def test_the_action_writes_sarif_by_a_second_check(act):
    status, commands, outputs = act(env={"STATUS": "1"}, sarif="find ings.sarif", specs="m:f", working_directory="sub/")
    assert commands == [
        [*CHECK, "--format", "github", "--output", "-", "--", "m:f"],
        [*CHECK, "--format", "sarif", "--output", "find ings.sarif", "--exit-zero", "--", "m:f"],
    ]
    assert status == 1
    assert outputs == {"exit-code": "1", "sarif": "sub/find ings.sarif"}
    status, _, outputs = act(env={"SARIF_STATUS": "2"}, sarif="a.sarif")
    assert (status, outputs) == (2, {"exit-code": "2", "sarif": "a.sarif"})


def test_python_may_be_a_command_of_several_words(act):
    _, commands, _ = act(python="python -X  dev")
    assert commands[0][:5] == ["-X", "dev", *CHECK]


def test_the_action_installs_the_release_that_it_is_of(act):
    status, commands, _ = act("Install autoinit")
    assert (status, commands) == (0, [["-m", "pip", "install", "/action"]])
