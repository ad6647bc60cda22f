"""From the fields of option classes to options of the command line, and back to option objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import click

from tsdistill.cli.command import Decorator, option
from tsdistill.cli.option_types import FIGURES, PAIR, POSITIONS, SIZE
from tsdistill.options.option_fields import SEED, Known, OptionSet, flag, known_fields

Chosen = TypeVar("Chosen", bound=OptionSet)

FORMS: dict[str, dict[str, Any]] = {
    "text": {"type": str},
    "texts": {"type": str, "multiple": True},
    "size": {"type": SIZE},
    "figures": {"type": FIGURES},
    "positions": {"type": POSITIONS},
    "pairs": {"type": PAIR, "multiple": True},
    "switch": {},
}
"""How values are written where the type of a field does not say it (`OptionField.form`)."""


class FieldType(click.ParamType):
    """A value of a field: a number in its range, a text, or several of either between commas.

    Args:
        known: the field, which knows what it takes.
    """

    name = "value"

    def __init__(self, known: Known) -> None:
        self.known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value as the field's type; a usage error for anything that the field does not take."""
        if isinstance(value, str):
            items = [_parsed(item, self.known.scalars) for item in _items(value, self.known.several)]
            value = items if self.known.several else items[0]
        checked, fault = self.known.judged(value)
        if fault:
            self.fail(fault, param, ctx)
        return checked


def field_option(known: Known) -> Decorator:
    """The option of a field; its value is ``None``, or ``()`` for several, where it is not given."""
    field, name = known.field, flag(known.name)
    names = [*(field.flags or (name,)), known.name]
    kind: dict[str, Any] = {"metavar": field.metavar}
    if field.form == "switch":
        names, kind = [f"{name}/--no-{name[2:]}", known.name], {"default": None}
    elif known.scalars == (bool,) and not known.several:
        kind = {"is_flag": True, "default": None}
    elif field.form:
        kind |= FORMS[field.form]
    elif field.choices and not known.several:
        kind = {"type": click.Choice(field.choices)}
    else:
        kind |= {"type": FieldType(known)}
    return option(field.section, *names, help=_help(known), **kind)


def options_of(cls: type[OptionSet], names: Sequence[str] = ()) -> tuple[Decorator, ...]:
    """The options of a class that the command line offers.

    Args:
        cls: the class.
        names: of the fields; all of them by default.
    """
    fields = known_fields(cls)
    offered = [fields[name] for name in names or fields if fields[name].field.metavar is not None]
    return tuple(field_option(known) for known in offered)


def collected(cls: type[Chosen], params: dict[str, Any], **more: Any) -> Chosen:
    """The option object that a command line gives.

    Args:
        cls: its class.
        params: the command's parameters; of those that were not given the class has the defaults.
        more: further options, likewise.
    """
    values = {name: params.get(name) for name in known_fields(cls)} | more
    return cls(**{name: value for name, value in values.items() if value is not None and value != ()})


seed_option = option(
    "Data",
    "--seed",
    type=FieldType(SEED),
    default=0,
    show_default=True,
    metavar="N",
    help=SEED.field.help,
)


def _help(known: Known) -> str:
    """The help text, with the default where there is one that is not plain from the text."""
    default = known.default
    plain = default is None or default is False or default == () or not isinstance(default, int | float | str)
    if plain or (isinstance(default, float) and default == 0) or default == "none":
        return known.field.help
    words = {True: flag(known.name)[2:]}.get(default, default) if isinstance(default, bool) else default
    return f"{known.field.help}  [default: {words}]"


def _items(text: str, several: bool) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()] if several else [text]


def _parsed(text: str, scalars: tuple[type, ...]) -> Any:
    """A number where the field takes numbers and the text is one, else the text."""
    for kind in (int, float):
        if kind in scalars:
            try:
                return kind(text)
            except ValueError:
                continue
    return text
