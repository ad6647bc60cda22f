"""Options behind a registered name: ``NAME:OPTION=VALUE,...``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from tsdistill.errors import TsdistillError

_TRUTH = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_KINDS = {bool: "yes or no", int: "a whole number", float: "a number"}


def option_values(text: str, defaults: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """The options that ``OPTION=VALUE,...`` gives, each value of the type of the option's default.

    Args:
        text: what is written behind the name.
        defaults: option -> its default; without one, or of ``None``, the value stays a string.
        owner: whose options these are, for messages: ``"the loss mse"``.

    Raises:
        TsdistillError: there is no such option, or a value is not of its type.
    """
    values: dict[str, Any] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, equals, value = (word.strip() for word in part.partition("="))
        if key in defaults and not equals:
            raise TsdistillError(f"{owner}: its option {key} has no value; write {key}=VALUE")
        if key not in defaults:
            known = f"write OPTION=VALUE; options are {', '.join(defaults)}" if defaults else "it has none"
            raise TsdistillError(f"{owner} has no option {key!r}; {known}")
        default = defaults[key]
        kind = str if default is None or default is inspect.Parameter.empty else type(default)
        try:
            values[key] = _TRUTH[value.lower()] if kind is bool else kind(value)
        except (KeyError, ValueError) as error:
            raise TsdistillError(f"{owner}: {key}={value}: give {_KINDS.get(kind, kind.__name__)}") from error
    return values
