"""What is installed and what installs it: imports, the wheel, pins, and the public surface."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import autoinit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]


def python(*arguments: str, cwd: Path | None = None) -> str:
    """Standard output of a Python of its own, which must succeed."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_imports_run_one_way():
    lint = "from importlinter.cli import lint_imports_command as lint; lint()"
    told = python("-c", lint, "--no-cache", "--no-logo", cwd=ROOT)
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", told), told


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("rich", "click", "torchvision", "timm", "transformers", "safetensors", "scipy", "sympy")
    heavy += ("torch._dynamo", "torch._inductor", "torch._export", "torch.distributed.tensor")
    script = "import torch, sys; before = set(sys.modules); from autoinit import autoinit; "
    script += "print(*set(sys.modules) - before)"
    loaded = set(python("-c", script).split())
    assert "autoinit.api" in loaded
    assert loaded.isdisjoint(heavy)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """What the source distribution holds, unpacked; it is built from a copy of what it is made of."""
    source = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    for name in ("autoinit", "docs", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    python("-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=source)
    (built,) = (source / "dist").glob("*.tar.gz")
    shutil.unpack_archive(built, source / "unpacked", filter="data")
    (unpacked,) = (source / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(sdist) -> zipfile.ZipFile:
    """The wheel, built from the source distribution."""
    python("-c", "from setuptools import build_meta; build_meta.build_wheel('dist')", cwd=sdist)
    (built,) = (sdist / "dist").glob("*.whl")
    return zipfile.ZipFile(built)


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_package_its_type_marker_and_nothing_else(wheel):
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "autoinit").rglob("*.py")}
    scripts = "shared.js", "picture.js", "walks.js", "plot.js", "table.js", "start.js", "elk.bundled.js"
    names = "page.css", "page.html", "elk.LICENSE.md", *scripts
    page = {f"autoinit/reporting/pages/{name}" for name in names}
    assert shipped == sources | page | {"autoinit/py.typed", "autoinit/reporting/findings/schema.json"}


def test_the_wheel_installs_the_command(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "autoinit = autoinit.cli:main" in wheel.read(name).decode()


def test_one_version_everywhere(metadata):
    assert metadata["Name"] == "torch-autoinit"
    assert metadata["Version"] == autoinit.__version__
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == autoinit.__version__


def test_the_source_distribution_holds_what_tests_and_manual_need(sdist):
    for name in ("docs", "tests"):
        tracked = {path.relative_to(ROOT) for path in (ROOT / name).rglob("*.py")}
        assert tracked == {path.relative_to(sdist) for path in (sdist / name).rglob("*.py")}
    for name in ("CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "constraints.txt", "pyproject.toml"):
        assert (sdist / name).read_bytes() == (ROOT / name).read_bytes()


def test_the_metadata_has_links_classifiers_and_a_page(metadata):
    links = dict(each.split(", ") for each in metadata.get_all("Project-URL"))
    assert set(links) == {"Homepage", "Source", "Release notes"}
    assert all(each.startswith(f"https://pypi.org/project/{metadata['Name']}/") for each in links.values())
    classifiers = metadata.get_all("Classifier")
    minors = [each.rpartition(".")[2] for each in classifiers if " :: Python :: 3." in each]
    assert metadata["Requires-Python"] == f">=3.{minors[0]}"
    assert "Typing :: Typed" in classifiers
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    assert len(metadata["Summary"]) < 200


def test_the_page_of_the_index_renders(metadata):
    """As GitHub's Markdown, which the index renders: nothing in it is raw HTML, which it would take out."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(metadata.get_payload())
    kinds = [token.type for token in tokens]
    assert {"heading_open", "table_open", "fence"} <= set(kinds)
    assert "html_block" not in kinds


def test_the_package_can_be_used_from_the_wheel_alone(wheel, tmp_path):
    """Unpacked where nothing else of the project is: data files are found, and the command says its version."""
    wheel.extractall(tmp_path)
    script = (
        "import sys; sys.path.insert(0, '.'); import autoinit, torch; from autoinit import formats\n"
        "assert autoinit.__file__.startswith(sys.argv[1]), autoinit.__file__\n"
        "report = autoinit.report(torch.nn.Linear(2, 2)); print(len(report.to('html')) > 100_000)\n"
        "from autoinit.cli import main; main(['--version'])"
    )
    told = python("-c", script, str(tmp_path), cwd=tmp_path)
    assert told == f"True\nautoinit, version {autoinit.__version__}\n"


def test_the_licences_are_those_of_what_is_shipped(wheel, metadata):
    assert metadata["License-Expression"] == "MIT AND EPL-2.0"
    shipped = {name.partition("/licenses/")[2] for name in wheel.namelist() if "/licenses/" in name}
    assert shipped == {"LICENSE", "autoinit/reporting/pages/elk.LICENSE.md"}
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")


def test_all_names_exist_once():
    assert len(set(autoinit.__all__)) == len(autoinit.__all__)
    assert all(hasattr(autoinit, name) for name in autoinit.__all__)


def public_objects() -> Iterator[tuple[str, object]]:
    """Every module, and every function and class of it, whose name has no underscore in front."""
    for found in pkgutil.walk_packages(autoinit.__path__, "autoinit."):
        if found.name.rpartition(".")[2].startswith("_"):
            continue
        module = importlib.import_module(found.name)
        yield found.name, module
        for name, value in vars(module).items():
            kind = inspect.isfunction(value) or inspect.isclass(value)
            if kind and value.__module__ == found.name and not name.startswith("_"):
                yield f"{found.name}.{name}", value


def test_everything_public_says_what_it_is():
    objects = dict(public_objects())
    assert len(objects) > 100
    assert [name for name, value in objects.items() if not (inspect.getdoc(value) or "").strip()] == []
    assert [name for name in autoinit.__all__ if not inspect.getdoc(getattr(autoinit, name))] == []


PIN = re.compile(r'([a-z0-9.-]+)==([0-9][0-9a-z.]*)(; python_version >= "3\.11")?')


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [(line, PIN.fullmatch(line)) for line in lines if not line.startswith("#")]
    assert [line for line, match in found if match is None] == []
    return {match[1]: match[2] for _, match in found if match is not None}


def closure(requirements: list[str]) -> dict[str, list[Requirement]]:
    """Everything that these need, and what is asked of each; what is not installed is not looked into."""
    waiting = [Requirement(each) for each in requirements]
    asked: dict[str, list[Requirement]] = {}
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        one = waiting.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        asked.setdefault(name, []).append(one)
        if (name, extras) in done:
            continue
        done.add((name, extras))
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        waiting += [
            need
            for need in map(Requirement, needs)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        ]
    return asked


@pytest.mark.skipif(sys.version_info < (3, 11), reason="under 3.10 pip chooses some versions")
def test_constraints_pin_all_that_is_installed_and_nothing_else():
    pinned = pins()
    if importlib.metadata.version("torch").partition("+")[0] != str(pinned["torch"]):
        pytest.skip("the suite runs under other versions than those pinned")
    extras = [each for name, extra in EXTRAS.items() if name != "bench-libraries" for each in extra]
    extras = [each for each in extras if Requirement(each).name != PROJECT["name"]]  # an extra that takes in another
    everything = closure(PROJECT["dependencies"] + extras)
    # torch's builds for accelerators bring drivers of their own, in versions that torch names itself
    asked = {name: each for name, each in everything.items() if not name.startswith(("cuda-", "nvidia-", "triton"))}
    assert sorted(set(asked) - set(pinned)) == []
    direct = {canonicalize_name(Requirement(each).name) for each in EXTRAS["bench"]}
    installed = {name for name in direct if importlib.util.find_spec(name) is not None}
    if installed == direct:
        assert sorted(set(pinned) - set(asked)) == []
    for name, requirements in asked.items():
        assert all(one.specifier.contains(pinned[name], prereleases=True) for one in requirements), name
    assert list(pinned) == sorted(pinned)


def test_the_package_knows_no_model_library():
    libraries = {"timm", "torchvision", "transformers"}
    assert libraries.isdisjoint(closure(PROJECT["dependencies"]))
    for path in (ROOT / "autoinit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert libraries.isdisjoint(name.partition(".")[0] for name in names), path


def test_pre_commit_runs_the_tools_that_are_installed():
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", config) == ["local"]
    assert re.findall(r"entry: (\S+)", config) == ["ruff", "ruff", "mypy", "lint-imports"]
    assert re.findall(r"language: (\S+)", config) == ["system"] * 4
    assert {"ruff", "mypy", "import-linter"} <= {Requirement(each).name for each in EXTRAS["dev"]}


def test_ci_is_a_script_that_bash_can_read():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
