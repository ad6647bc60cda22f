"""Old keywords of public functions: they work for one version, and warn."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from tsdistill.options.option_fields import OptionSet, known_fields, nearest

P = ParamSpec("P")
R = TypeVar("R")

Move = Callable[[dict[str, Any], Any], None]
"""Puts the value of an old keyword where it belongs now, among the arguments by name."""


def grouped(
    *, moved: Mapping[str, Move] | None = None, **groups: type[OptionSet]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take options one by one that it takes as objects; each such call warns.

    ``__wrapped__`` has the signature without the old keywords.

    Args:
        moved: old keyword -> what puts its value among the arguments, where it is no field of a group.
        groups: parameter -> class of the options that it takes.

    Raises:
        TypeError: (by the function) an option is given both ways.
    """
    homes = {name: each for each, cls in groups.items() for name in known_fields(cls)}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        old = {*homes, *(moved or {})} - {*signature.parameters}

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            flat = {name: kwargs.pop(name) for name in [*kwargs] if name in old}
            unknown = [name for name in kwargs if name not in signature.parameters]
            if unknown:
                way_out = nearest(unknown[0], signature.parameters)
                raise TypeError(f"{function.__name__}() takes no argument {unknown[0]!r}; {way_out}")
            if not flat:
                return function(*args, **kwargs)
            new = signature.bind_partial(*args, **kwargs).arguments
            for name, value in flat.items():
                if moved and name in moved:
                    moved[name](new, value)
                    continue
                home = homes[name]
                before = groups[home].of(new.get(home)).changed()
                chosen = {**before, name: _once(name, value, home, before)}
                new[home] = groups[home].of(chosen)
            warnings.warn(_advice(function, flat, homes), DeprecationWarning, stacklevel=2)
            positional = [p.name for p in signature.parameters.values() if p.kind is p.VAR_POSITIONAL]
            assert not positional
            return function(**new)  # type: ignore[call-arg]

        return called

    return decorate


def into(parameter: str, field: str) -> Move:
    """A move of an old keyword into a mapping or an option object that ``parameter`` takes.

    Args:
        parameter: of the function.
        field: its name there.
    """

    def move(arguments: dict[str, Any], value: Any) -> None:
        before = arguments.get(parameter)
        before = before.changed() if isinstance(before, OptionSet) else dict(before or {})
        arguments[parameter] = {**before, field: _once(field, value, parameter, before)}

    return move


def _once(name: str, value: Any, home: str, before: Mapping[str, Any]) -> Any:
    """The value of an old keyword, which the object that it goes into does not have already."""
    if before.get(name) is not None:
        raise TypeError(f"{name} is given twice, by itself and in {home}; leave out {name}=")
    return value


def _advice(function: Callable[..., Any], flat: Mapping[str, Any], homes: Mapping[str, str]) -> str:
    """How the call is written now."""
    groups: dict[str, list[str]] = {}
    for name in flat:
        groups.setdefault(homes.get(name, ""), []).append(name)
    named = {home: ", ".join(f"{name!r}: ..." for name in names) for home, names in groups.items() if home}
    new = ", ".join(f"{home}={{{inside}}}" for home, inside in named.items())
    old = ", ".join(f"{name}=" for name in flat)
    where = f"write {new}" if new else "see its docstring"
    return f"{function.__name__}({old}): these options are in objects now; {where}"
