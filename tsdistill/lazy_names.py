"""Names of a module that are imported when they are first asked for, listed once, in the module's stub.

A stub ``module.pyi`` of lines ``from package.part import name as name`` is what type checkers and editors
read; here the same lines say at run time where each name is (as ``lazy_loader.attach_stub`` does, of which
this is the part that is needed).
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path


def attach(
    module: str, file: str, deprecated: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a module, from the stub beside its file.

    Args:
        module: the module's ``__name__``.
        file: its ``__file__``.
        deprecated: former names that work with a `DeprecationWarning`, and the dotted name that replaces
            each.

    Returns:
        the two functions, and the names that the stub declares, sorted: those that it imports and those that
        it annotates (``name: type``, which the module itself defines), ``__all__`` aside.
    """
    stub = ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8"))
    home = {
        alias.asname: (line.module, alias.name)
        for line in stub.body
        if isinstance(line, ast.ImportFrom) and line.module
        for alias in line.names
        if alias.asname
    }
    own = [
        line.target.id
        for line in stub.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    ]
    own.remove("__all__")
    names = sorted([*home, *own])
    former = renamed(module, deprecated or {}, depth=3)

    def __getattr__(name: str) -> object:
        if name not in home:
            return former(name)
        place, attribute = home[name]
        is_submodule = place == module
        value = (
            import_module(f"{place}.{attribute}")
            if is_submodule
            else getattr(import_module(place), attribute)
        )
        setattr(sys.modules[module], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[module]), *names})

    return __getattr__, __dir__, names


def renamed(module: str, deprecated: Mapping[str, str], depth: int = 2) -> Callable[[str], object]:
    """A module's ``__getattr__`` for names that it had before.

    Args:
        module: the module's ``__name__``.
        deprecated: former names that work with a `DeprecationWarning`, and the dotted name that replaces
            each.
        depth: frames between the warning and the code that uses the name.
    """

    def find(name: str) -> object:
        if name not in deprecated:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = deprecated[name].rpartition(".")
        text = f"{module}.{name} is deprecated: use {deprecated[name]}"
        warnings.warn(text, DeprecationWarning, stacklevel=depth)
        return getattr(import_module(place), new)

    return find
