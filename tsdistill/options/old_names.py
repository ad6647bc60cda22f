"""Old keywords of public functions: they work for one version, and warn."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from tsdistill.errors import WrongCall
from tsdistill.options.option_fields import OptionSet, known_fields, nearest

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Move:
    """Where the value of an old keyword belongs now: in a mapping or an option object.

    Attributes:
        parameter: of the function.
        field: its name there; ``None`` where the value is the name of the parameter's one entry.
    """

    parameter: str
    field: str | None

    def written(self, value: Any) -> str:
        """The entry in ``parameter``, for messages."""
        return f"{(value if self.field is None else self.field)!r}: ..."

    def __call__(self, arguments: dict[str, Any], value: Any) -> None:
        """Put the value among the arguments by name."""
        before = arguments.get(self.parameter)
        if self.field is None:
            arguments[self.parameter] = {value: before}
            return
        before = before.changed() if isinstance(before, OptionSet) else dict(before or {})
        value = _once(self.field, value, self.parameter, before)
        arguments[self.parameter] = {**before, self.field: value}


def grouped(
    *, moved: Mapping[str, Move] | None = None, **groups: type[OptionSet]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a function take options one by one that it takes as objects; each such call warns.

    ``__wrapped__`` has the signature without the old keywords.

    Args:
        moved: old keyword -> what puts its value among the arguments, where it is no field of a group.
        groups: parameter -> class of the options that it takes.

    Raises:
        WrongCall: (by the function) an option is given both ways, an argument does not exist or is missing.
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
                raise WrongCall(f"{function.__name__}() takes no argument {unknown[0]!r}; {way_out}")
            try:
                new = signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                names = [
                    each.name
                    for each in signature.parameters.values()
                    if each.kind is each.POSITIONAL_OR_KEYWORD
                ]
                message = f"{function.__name__}(): {error}; by position it takes {', '.join(names)}"
                raise WrongCall(message) from error
            if not flat:
                return function(*args, **kwargs)
            for name, value in flat.items():
                if moved and name in moved:
                    moved[name](new, value)
                    continue
                home = homes[name]
                before = groups[home].of(new.get(home)).changed()
                chosen = {**before, name: _once(name, value, home, before)}
                new[home] = groups[home].of(chosen)
            warnings.warn(_advice(function, flat, homes, moved or {}), DeprecationWarning, stacklevel=2)
            return function(**new)  # type: ignore[call-arg]

        return called

    return decorate


def _once(name: str, value: Any, home: str, before: Mapping[str, Any]) -> Any:
    """The value of an old keyword, which the object that it goes into does not have already."""
    if before.get(name) is not None:
        raise WrongCall(f"{name} is given twice, by itself and in {home}; leave out {name}=")
    return value


def _advice(
    function: Callable[..., Any], flat: Mapping[str, Any], homes: Mapping[str, str], moved: Mapping[str, Move]
) -> str:
    """How the call is written now."""
    groups: dict[str, list[str]] = {}
    for name, value in flat.items():
        move = moved.get(name) or Move(homes[name], name)
        groups.setdefault(move.parameter, []).append(move.written(value))
    new = ", ".join(f"{parameter}={{{', '.join(entries)}}}" for parameter, entries in groups.items())
    old = ", ".join(f"{name}=..." for name in flat)
    return f"tsdistill.{function.__name__}({old}) is deprecated: write {function.__name__}({new})"
