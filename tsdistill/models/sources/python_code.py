"""Models from the user's own code: ``path/to/file.py:factory`` and ``package.module:factory``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.sources.specs import Built


def build(argument: str, *, weights: bool) -> Built:
    """Import the code and call the factory, which takes no argument and returns an ``nn.Module``.

    The weights are those that the factory makes, whatever ``weights`` says.

    Raises:
        TsdistillError: the code is not there, does not import, or the factory does not give a module.
    """
    found, factory = _found(argument, "factory")
    if isinstance(found, nn.Module):
        return Built(found, argument)
    if not callable(found):
        raise TsdistillError(f"{argument}: {factory} is not callable; it must return an nn.Module")
    model = _called(found, argument, factory)
    if not isinstance(model, nn.Module):
        raise TsdistillError(f"{argument}: {factory}() returned {type(model).__name__}, not an nn.Module")
    return Built(model, argument)


def call(argument: str, wanted: str) -> Any:
    """What a function of the user's own returns, ``path/to/file.py:function`` or ``package.module:function``.

    Raises:
        TsdistillError: the code is not there, does not import, is no function, or the function fails;
            ``wanted`` says what it is to return.
    """
    found, function = _found(argument, "function")
    if not callable(found):
        raise TsdistillError(f"{argument}: {function} is not callable; it must return {wanted}")
    return _called(found, argument, function)


def _called(found: Callable[[], Any], argument: str, name: str) -> Any:
    try:
        return found()
    except Exception as error:
        raise TsdistillError(f"{argument}: {name}() failed with {_line(error)}") from error


def _found(argument: str, kind: str) -> tuple[Any, str]:
    place, colon, name = argument.rpartition(":")
    if not colon or not place or not name:
        raise TsdistillError(
            f"{argument}: own code is written path/to/file.py:{kind} or package.module:{kind}"
        )
    module = _from_file(Path(place), argument) if place.endswith(".py") else _from_package(place, argument)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise TsdistillError(f"{argument}: {place} has no {name}")
        found = getattr(found, part)
    return found, name


def _from_file(path: Path, spec: str) -> ModuleType:
    if not path.is_file():
        raise TsdistillError(f"{spec}: there is no file {path}")
    path = path.resolve()
    name = f"_tsdistill_own_{path.stem}_{hashlib.blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    found = importlib.util.spec_from_file_location(name, path)
    if found is None or found.loader is None:
        raise TsdistillError(f"{spec}: {path} cannot be imported as Python code")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        with _first_on_path(path.parent):
            found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise TsdistillError(f"{spec}: importing {path} failed with {_line(error)}") from error
    return module


def _from_package(name: str, spec: str) -> ModuleType:
    try:
        with _first_on_path(Path.cwd()):
            return importlib.import_module(name)
    except Exception as error:
        raise TsdistillError(f"{spec}: importing {name} failed with {_line(error)}") from error


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
