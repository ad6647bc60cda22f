"""Names, constants and signatures: what CONTRIBUTING.md says of them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import tsdistill

PACKAGE = Path(tsdistill.__file__).parent
TREES = {file.relative_to(PACKAGE): ast.parse(file.read_text()) for file in PACKAGE.rglob("*.py")}

EMPTY_NAMES = {"found", "given", "made", "told", "beside", "there", "said", "mine", "theirs"}
"""Participles and pronouns that do not say what a value is."""

MOST_PARAMETERS = 13
"""Of a function that other modules call; more belong into an object of options."""

MOST_LINES = 420
"""Of a module: about ten screens."""


def _names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def _has_number(node: ast.AST) -> bool:
    """Whether a value is made of numbers: one, a product, a tuple; not objects that are given some."""
    if any(isinstance(each, ast.Call | ast.Dict) for each in ast.walk(node)):
        return False
    constants = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return any(type(value) in (int, float) for value in constants)


def _constants(tree: ast.Module) -> Iterator[tuple[ast.stmt, str]]:
    """The numeric constants of a module whose next statement is no docstring."""
    for place, node in enumerate(tree.body):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id.lstrip("_").isupper() and _has_number(node.value):
            after = tree.body[place + 1] if place + 1 < len(tree.body) else None
            value = after.value if isinstance(after, ast.Expr) else None
            if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                yield node, target.id


def test_no_name_is_a_participle_or_a_pronoun() -> None:
    bad = [
        f"{file}:{line}: {name}"
        for file, tree in TREES.items()
        for line, name in _names(tree)
        if name.strip("_") in EMPTY_NAMES
    ]
    assert bad == []


def test_every_numeric_constant_says_what_it_is() -> None:
    bad = [f"{file}:{node.lineno}: {name}" for file, tree in TREES.items() for node, name in _constants(tree)]
    assert bad == []


def test_modules_have_names_of_their_own() -> None:
    names = Counter(file.stem for file in TREES if file.stem not in ("__init__", "__main__"))
    assert [name for name, times in names.items() if times > 1] == []


def test_modules_are_of_a_size_to_read() -> None:
    sizes = {file: len((PACKAGE / file).read_text().splitlines()) for file in TREES}
    assert {file: lines for file, lines in sizes.items() if lines > MOST_LINES} == {}


def test_functions_take_few_parameters() -> None:
    bad = []
    for file, tree in TREES.items():
        for function in _functions(tree):
            arguments = function.args
            names = [each.arg for each in (*arguments.args, *arguments.kwonlyargs)]
            if len([name for name in names if name not in ("self", "cls")]) > MOST_PARAMETERS:
                bad.append(f"{file}:{function.lineno}: {function.name} has {len(names)} parameters")
    assert bad == []


def test_documented_arguments_are_parameters() -> None:
    bad = []
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            part = (ast.get_docstring(node) or "").partition("Args:\n")[2]
            names = re.findall(r"^    (\w+):", re.split(r"\n(?=\S)", part)[0], re.MULTILINE)
            functions = [node]
            if isinstance(node, ast.ClassDef):
                functions = [f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
            if not functions or not isinstance(functions[0], ast.FunctionDef):
                continue
            arguments = functions[0].args
            known = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
            known |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a}
            bad += [f"{file}:{node.lineno}: {node.name}: {name}" for name in names if name not in known]
    assert bad == []
