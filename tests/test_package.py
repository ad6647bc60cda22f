"""The public names, what importing costs, and the project's own files."""

import ast
import importlib
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

import tsdistill

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there() -> None:
    for name in tsdistill.__all__:
        assert getattr(tsdistill, name) is not None
    assert set(tsdistill.__all__) <= set(dir(tsdistill))


@pytest.mark.parametrize("module", ["tsdistill", "tsdistill.plugin_api"])
def test_a_public_name_is_what_the_stub_says_and_said_once(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__file__ is not None
    stub = Path(loaded.__file__).with_suffix(".pyi").read_text()
    places = re.findall(r"^from (\S+) import (\w+) as (\w+)$", stub, re.MULTILINE)
    assert len({public for _, _, public in places}) == len(places) > 20
    for place, name, public in places:
        assert getattr(loaded, public) is getattr(importlib.import_module(place), name)
    annotated = set(re.findall(r"^(\w+): ", stub, re.MULTILINE))
    assert {public for _, _, public in places} | annotated == {*loaded.__all__, "__all__"}


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="prunne"):
        _ = tsdistill.prunne  # type: ignore[attr-defined]


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


FLOORS = (
    ("interrupts", "lazy_names", "printable", "torch_private", "version"),
    ("errors",),
    ("untrusted", "devices", "files", "imported_code"),
    ("schema", "output_paths", "installation", "plugins"),
    ("options",),
    ("models",),
    ("runtime",),
    ("data",),
    ("tracing", "evaluation", "augmentation"),
    ("exporting", "statistics"),
    ("alignment",),
    ("pruning",),
    ("distillation",),
    ("plugin_api",),
    ("report",),
    ("cli",),
    ("lab",),
)
"""The folders and modules of the package from the ground up; see docs/architecture.md."""

PACKAGE = Path(tsdistill.__file__).parent

MODULES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
}


def _imports(file: Path) -> set[str]:
    """The modules of this package that a file imports anywhere, also for type checkers alone."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tsdistill":
            modules = {name for alias in node.names if (name := f"{node.module}.{alias.name}") in MODULES}
            names |= modules if len(modules) == len(node.names) else {*modules, str(node.module)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names} & MODULES.keys()
    return names


def test_a_folder_imports_only_from_floors_below_it() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    for module, file in MODULES.items():
        parts = module.split(".")
        if len(parts) == 1 or parts[1] == "__main__":
            continue
        for name in _imports(file):
            used = [*name.split("."), ""][1]
            if used == parts[1] or used not in floor:
                continue
            assert floor[used] < floor[parts[1]], f"{module} imports {name}"


def test_every_module_is_on_a_floor() -> None:
    on_a_floor = {name for names in FLOORS for name in names} | {"__main__"}
    assert {module.split(".")[1] for module in MODULES if "." in module} == on_a_floor


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter({module: _imports(file) - {module} for module, file in MODULES.items()}).prepare()


def test_nothing_imports_the_lab() -> None:
    package = Path(tsdistill.__file__).parent
    for file in package.rglob("*.py"):
        if file.relative_to(package).parts[0] == "lab":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(re.match(r"tsdistill\.lab\b", name) for name in names), file


def test_no_file_names_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    hosts = re.compile(r"(?:pypi|npmjs|pythonhosted|debian)\.org")
    for name in filter(None, listed.stdout.split("\0")):
        file = ROOT / name
        if file.suffix in (".py", ".toml", ".md", ".txt", ".cfg", "") and file.is_file():
            assert not hosts.search(file.read_text(errors="ignore")), name


def test_the_example_plugin_imports_nothing_but_the_plugin_api() -> None:
    files = list((ROOT / "plugins").rglob("*.py"))
    text = "\n".join(file.read_text() for file in files)
    imported = set(re.findall(r"(?:from|import) (tsdistill(?:\.\w+)*)\b", text))
    assert imported - {"tsdistill_gratings"} == {"tsdistill.plugin_api"}


OF_TORCH = {*dir(torch.Tensor), *dir(torch.nn.Module()), *dir(torch.nn.RNN(1, 1))}
"""Attributes of tensors and modules."""

CARRIED = {
    "tsdistill.models.attention",
    "tsdistill.models.constant_modules",
    "tsdistill.models.widths",
}
"""Modules whose text exported models carry: they import nothing of this package."""


def _private_names_of_torch(file: Path) -> Iterator[str]:
    """What a file imports from torch, or reads off its objects, that begins with an underscore."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name for name in names if "._" in name and "__" not in name)
        elif isinstance(node, ast.Attribute) and re.match("_[a-zA-Z]", node.attr):
            owner = ast.unparse(node.value)
            if owner.partition(".")[0] == "torch" or (node.attr in OF_TORCH and owner != "self"):
                yield f"{owner}.{node.attr}"


def test_private_names_of_torch_are_used_in_one_module() -> None:
    for module, file in MODULES.items():
        if module not in {"tsdistill.torch_private", *CARRIED}:
            assert not [*_private_names_of_torch(file)], module


def test_forward_hooks_are_registered_in_one_module() -> None:
    for module, file in MODULES.items():
        if module != "tsdistill.runtime.hooks" and not module.startswith("tsdistill.models."):
            assert not re.search(r"\.register_forward_(pre_)?hook\(", file.read_text()), module
