"""From what is written (``0.5*node-alignment:match=best``, ``mse@boxes``) to losses."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tsdistill import plugins
from tsdistill.distillation.losses.combined import Combined, Term
from tsdistill.distillation.losses.loss_protocol import Loss
from tsdistill.errors import TsdistillError
from tsdistill.plugins import NamedObject
from tsdistill.plugins.option_text import option_values

KIND = "loss"

Description = str | Sequence[str] | Mapping[str, float]


def parse(description: Description | Loss) -> Combined:
    """The weighted sum that ``description`` describes.

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
    return Combined([_term(text, weight) for text, weight in pairs])


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
    parameters = inspect.signature(make).parameters
    options = option_values(rest, {key: each.default for key, each in parameters.items()}, f"the loss {name}")
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
