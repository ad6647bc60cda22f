"""From what is written (``0.5*node-alignment:match=best``, ``mse@boxes``) to losses."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tsdistill import plugins
from tsdistill.distillation.losses.combined import Combined, Term
from tsdistill.distillation.losses.loss_protocol import Loss
from tsdistill.errors import TsdistillError
from tsdistill.plugins import NamedObject

KIND = "loss"

Description = str | Sequence[str] | Mapping[str, float]


def parse(description: Description | Loss) -> Combined:
    """The weighted sum that ``given`` describes.

    Args:
        description: ``"[WEIGHT*]NAME[:OPTION=VALUE,...][@OUTPUT]"``, several of them in a sequence or joined
            by ``+``, a mapping from ``"NAME[:OPTION=VALUE,...][@OUTPUT]"`` to weight, or a `Loss`.

    Raises:
        TsdistillError: a name, an option or a value that does not exist, or a loss given twice.
    """
    if isinstance(description, Combined):
        return description
    if isinstance(description, Mapping):
        pairs = [(text, _weight(weight, text)) for text, weight in description.items()]
    elif isinstance(description, str | Sequence):
        texts = [description] if isinstance(description, str) else list(description)
        pairs = [_split(part) for text in texts for part in text.split("+")]
    elif isinstance(description, Loss):
        return Combined([_term(NamedObject(description), 1.0)])
    else:
        raise TsdistillError(f"a loss is given by name or as a Loss, not as a {type(description).__name__}")
    terms = [_term(text, weight) for text, weight in pairs]
    names = [term.name for term in terms]
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise TsdistillError(f"the loss {duplicate} is given twice; give it once, with one weight")
    return Combined(terms)


def _split(text: str) -> tuple[str, float]:
    front, star, rest = text.partition("*")
    if not star:
        return text.strip(), 1.0
    return rest.strip(), _weight(front.strip(), text)


def _weight(value: Any, text: str) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise TsdistillError(
            f"{text!r}: the weight of a loss is a number from 0, not {value!r}; write 0.5*node-alignment"
        )
    return weight


def _term(text: str, weight: float) -> Term:
    if isinstance(text, NamedObject):
        loss = text.thing() if isinstance(text.thing, type) else text.thing
        return Term(text, weight, _checked_loss(loss, text), plugins.origin(KIND, text))
    front, _, output = text.partition("@")
    output, colon, behind = (part.strip() for part in output.partition(":"))
    name, _, rest = (front + colon + behind).partition(":")
    name = name.strip()
    make = plugins.get(KIND, name)
    options = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise TsdistillError(f"{text!r}: {part!r} is no option; write {name}:OPTION=VALUE")
        options[key.strip()] = _value(make, name, key.strip(), value.strip())
    origin = plugins.origin(KIND, name)
    try:
        loss = make(**options)
    except TsdistillError:
        raise
    except Exception as error:
        raise TsdistillError(
            f"the loss {text} ({origin}) cannot be made: {type(error).__name__}: {error}"
        ) from error
    loss = _checked_loss(loss, name)
    return Term(f"{name}@{output}" if output else name, weight, loss, origin, output or None)


def _checked_loss(loss: Any, name: str) -> Loss:
    """A loss that was made or given, if it is one."""
    if not isinstance(loss, Loss):
        raise TsdistillError(
            f"the loss {name} ({plugins.origin(KIND, name)}) is a {type(loss).__name__}, which is no loss; "
            "derive it from tsdistill.plugin_api.PlainLoss"
        )
    return loss


def _value(make: Callable[..., Loss], name: str, key: str, value: str) -> Any:
    """``value`` as the kind of thing that the option's default is."""
    defaults = {k: p.default for k, p in inspect.signature(make).parameters.items()}
    if key not in defaults:
        raise TsdistillError(
            f"the loss {name} has no option {key!r}; it has {', '.join(defaults) if defaults else 'none'}"
        )
    default = defaults[key]
    kind = str if default is inspect.Parameter.empty or default is None else type(default)
    try:
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                value.lower()
            ]
        return kind(value)
    except (KeyError, ValueError) as error:
        words = {bool: "yes or no", int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        raise TsdistillError(f"{name}:{key}={value}: give {words}") from error
