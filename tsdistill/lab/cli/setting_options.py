"""The settings of an experiment as options of the command line."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any

import click

from tsdistill.lab import Experiment
from tsdistill.lab.experiment import DTYPES, flag

_WORDS = {int: "a whole number", float: "a number", str: "text"}


class ListType(click.ParamType):
    """``0,0.5,1`` as a tuple of numbers or texts.

    Args:
        kind: of the items: ``int``, ``float`` or ``str``.
    """

    name = "list"

    def __init__(self, kind: Callable[[str], Any]) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The parsed tuple; a usage error for any other text."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        try:
            return tuple(self._kind(part) for part in parts)
        except ValueError:
            word = _WORDS[self._kind]  # type: ignore[index]
            self.fail(f"{value!r}: each item, between commas, has to be {word}", param, ctx)


def settings_options(experiment: Experiment) -> list[click.Option]:
    """One option for each field of an experiment's settings, its own fields first.

    Raises:
        TypeError: a field is not a number, text, flag, or tuple of one of these types.
    """
    hints = typing.get_type_hints(experiment.settings)
    shared = ("seed", "device", "dtype")
    known = sorted(fields(experiment.settings), key=lambda field: field.name in shared)
    return [_option(field, hints[field.name], experiment) for field in known]


def chosen_settings(params: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the others keep the experiment's defaults."""
    return {name: value for name, value in params.items() if value is not None}


def _option(field: Field[Any], hint: Any, experiment: Experiment) -> click.Option:
    kind, several = _kind(hint)
    names = [flag(field.name), field.name]
    help_text = _help(field, experiment)
    if kind is bool:
        return click.Option([f"{names[0]}/--no-{names[0][2:]}", field.name], default=None, help=help_text)
    if several:
        return click.Option(names, type=ListType(kind), metavar=_metavar(kind, "{0},{0},..."), help=help_text)
    if field.name == "dtype":
        return click.Option(names, type=click.Choice(DTYPES), help=help_text)
    return click.Option(names, type=kind, metavar=_metavar(kind, "{0}"), help=help_text)


def _metavar(kind: type, form: str) -> str:
    return form.format({int: "N", float: "X"}.get(kind, "NAME"))


def _kind(hint: Any) -> tuple[type, bool]:
    """The type of a field's values, and whether the field is a list."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    several = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if several else hint
    if kind not in (int, float, str, bool):
        raise TypeError(f"a setting cannot be a {hint}")
    return kind, several


def _help(field: Field[Any], experiment: Experiment) -> str:
    """The help text of a field, with its default and its value under ``--quick``."""
    default = _default(field)
    values = _words(default)
    if experiment.quick.get(field.name, default) != default:
        values += f"; with --quick {_words(experiment.quick[field.name])}"
    text = field.metadata.get("help", "")
    return f"{text[:1].upper()}{text[1:]}" + (f" [{values}]" if values else "")


def _default(field: Field[Any]) -> Any:
    if field.default is MISSING and field.default_factory is not MISSING:
        return field.default_factory()
    return field.default


def _words(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
