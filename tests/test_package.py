"""The public names, what importing costs, and the project's own files."""

import ast
import re
import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tsdistill

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there() -> None:
    for name in tsdistill.__all__:
        assert getattr(tsdistill, name) is not None
    assert set(tsdistill.__all__) <= set(dir(tsdistill))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(tsdistill.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(imported) | {"__version__"} == set(tsdistill.__all__)
    for name, module in imported.items():
        assert module is not None
        assert module.startswith(tsdistill._HOME[name])


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="prunne"):
        _ = tsdistill.prunne


def test_importing_costs_nothing() -> None:
    code = (
        "import sys, tsdistill\n"
        "heavy = {'torch', 'timm', 'torchvision', 'numpy', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    times = []
    for _ in range(3):
        start = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime)
        assert done.returncode == 0, done.stderr
    assert min(times) < 0.5


def test_the_version_is_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == tsdistill.__version__


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(d for extra in project["optional-dependencies"].values() for d in extra),
    ]
    pinned = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    names = {re.split(r"[\[<>=~!; ]", requirement)[0].lower() for requirement in wanted} - {"tsdistill"}
    assert names <= pinned


def test_folders_import_only_from_those_before_them() -> None:
    order = (
        "printable",
        "errors",
        "untrusted",
        "yaml_text",
        "schema",
        "devices",
        "files",
        "output_paths",
        "plugins",
        "models",
        "runtime",
        "data",
        "tracing",
        "evaluation",
        "augmentation",
        "exporting",
        "statistics",
        "alignment",
        "pruning",
        "distillation",
        "theory",
        "report",
        "cli",
    )
    rank = {name: position for position, name in enumerate(order)}
    package = Path(tsdistill.__file__).parent
    for file in package.rglob("*.py"):
        stage = file.relative_to(package).parts[0].removesuffix(".py")
        if stage not in rank:
            continue
        for used in re.findall(r"^\s*(?:from|import) tsdistill\.(\w+)", file.read_text(), re.MULTILINE):
            assert rank[used] <= rank[stage], f"{file} imports tsdistill.{used}"


def test_no_file_names_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    hosts = re.compile(r"(?:pypi|npmjs|pythonhosted|debian)\.org")
    for name in filter(None, listed.stdout.split("\0")):
        file = ROOT / name
        if file.suffix in (".py", ".toml", ".md", ".txt", ".cfg", "") and file.is_file():
            assert not hosts.search(file.read_text(errors="ignore")), name
