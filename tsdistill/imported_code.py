"""The user's own code as a module: a file, a folder that is a package, or a module's name."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from tsdistill.errors import TsdistillError, cause_of

CATALOGS = ("timm", "torchvision")
"""Sources of models whose specifications (``timm:NAME``) name no path and no code of the user's."""


def import_code(place: str, spec: str) -> ModuleType:
    """Import code that the user names; it is executed.

    Args:
        place: a file that ends in ``.py``, a folder with an ``__init__.py``, or ``package.module``.
        spec: what messages begin with: what the user wrote.

    Raises:
        TsdistillError: the code is not there, or does not import.
    """
    if place.endswith(".py"):
        return _from_file(Path(place), spec)
    if Path(place, "__init__.py").is_file():
        return _from_file(Path(place, "__init__.py"), spec)
    return _from_package(place, spec)


def _from_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise TsdistillError(f"{spec}: there is no file {path}")
    path = path.resolve()
    digest = hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()
    package = path.name == "__init__.py"
    name = f"_tsdistill_own_{path.parent.name if package else path.stem}_{digest}"
    folders = [str(path.parent)] if package else None
    module_spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    if module_spec is None or module_spec.loader is None:
        raise TsdistillError(f"{spec}: {path} cannot be imported as Python code")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        with _first_on_path(path.parent):
            module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise TsdistillError(f"{spec}: importing {path} failed with {cause_of(error)}") from error
    return module


def _from_package(name: str, spec: str) -> ModuleType:
    try:
        with _first_on_path(Path.cwd()):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise TsdistillError(f"{spec}: importing {name} failed with {cause_of(error)}") from error


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
