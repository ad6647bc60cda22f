"""Models from the user's own code: ``path/to/file.py:factory`` and ``package.module:factory``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.imported_code import import_code
from tsdistill.models.sources.specs import Built


def build(argument: str, *, weights: bool) -> Built:  # noqa: ARG001
    """Import the code and call the factory, which takes no argument and returns an ``nn.Module``.

    The weights are those that the factory makes, whatever ``weights`` says.

    Raises:
        TsdistillError: the code is not there, does not import, or the factory does not give a module.
    """
    member, factory = _member(argument, "factory")
    if isinstance(member, nn.Module):
        return Built(member, argument)
    if not callable(member):
        raise TsdistillError(f"{argument}: {factory} is not callable; it must return an nn.Module")
    model = _called(member, argument, factory)
    if not isinstance(model, nn.Module):
        raise TsdistillError(f"{argument}: {factory}() returned {type(model).__name__}, not an nn.Module")
    return Built(model, argument)


def call(argument: str, wanted: str) -> Any:
    """What a function of the user's own returns, ``path/to/file.py:function`` or ``package.module:function``.

    Raises:
        TsdistillError: the code is not there, does not import, is no function, or the function fails;
            ``wanted`` says what it is to return.
    """
    member, function = _member(argument, "function")
    if not callable(member):
        raise TsdistillError(f"{argument}: {function} is not callable; it must return {wanted}")
    return _called(member, argument, function)


def _called(function: Callable[[], Any], argument: str, name: str) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise TsdistillError(f"{argument}: {name}() failed with {cause_of(error)}") from error


def _member(argument: str, kind: str) -> tuple[Any, str]:
    place, colon, name = argument.rpartition(":")
    if not colon or not place or not name:
        raise TsdistillError(
            f"{argument}: own code is written path/to/file.py:{kind} or package.module:{kind}"
        )
    member: Any = import_code(place, argument)
    for part in name.split("."):
        if not hasattr(member, part):
            raise TsdistillError(f"{argument}: {place} has no {name}")
        member = getattr(member, part)
    return member, name
