"""Specifications of architectures: ``source:name,key=value`` for catalogs, ``code:factory`` for own code."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.imported_code import CATALOGS
from tsdistill.models.info import InputSpec

_HF_CLASS = re.compile(r"hf:[A-Z][A-Za-z0-9_]*(,|$)")
OptionValue = bool | int | float | str


@dataclass(frozen=True)
class Built:
    """The result of a model source.

    Attributes:
        model: the module.
        arch: canonical specification that builds the same architecture again without any weights.
        input: how inputs look, where the source knows.
    """

    model: nn.Module
    arch: str
    input: InputSpec | None = None


class ModelSource(Protocol):
    """What is registered as a model source: builds what ``NAME:argument`` stands for.

    With ``weights`` false only the architecture is asked for, and nothing may be fetched; its values are
    replaced afterwards.
    """

    def __call__(self, argument: str, *, weights: bool) -> Built:
        """Build what stands after the colon."""
        ...


def parse(argument: str, spec: str) -> tuple[str, dict[str, OptionValue]]:
    """Split ``name,key=value,...`` into the name and typed options.

    Values become bools (``true``/``false``), ints, floats, else strings.

    Raises:
        TsdistillError: an option is not ``key=value`` or comes twice; ``spec`` is what the message shows.
    """
    name, *rest = argument.split(",")
    options: dict[str, OptionValue] = {}
    for item in rest:
        key, equals, value = item.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier() or not value.strip():
            raise TsdistillError(f"{spec}: cannot read the option {item!r}; write NAME,key=value,key=value")
        if key in options:
            raise TsdistillError(f"{spec}: the option {key!r} is given twice")
        options[key] = _value(value.strip())
    if not name.strip():
        raise TsdistillError(f"{spec}: a name is missing after the colon")
    return name.strip(), options


def refuse(options: Mapping[str, OptionValue], names: Collection[str], spec: str, way_out: str) -> None:
    """Refuse options that a source does not take.

    Args:
        options: those of a specification.
        names: the ones that are refused.
        spec: what the message shows.
        way_out: the end of the message.

    Raises:
        TsdistillError: one of them is there.
    """
    for name in names:
        if name in options:
            raise TsdistillError(f"{spec}: the option {name!r} cannot be given here; {way_out}")


def join(source: str, name: str, options: dict[str, OptionValue]) -> str:
    """The canonical text of a specification: options sorted, bools in lower case.

    Args:
        source: name of the model source.
        name: name of the model in it.
        options: values by key.
    """
    tail = "".join(f",{key}={_text(value)}" for key, value in sorted(options.items()))
    return f"{source}:{name}{tail}"


def in_catalog(arch: str) -> bool:
    """Whether ``arch`` names an entry of timm or torchvision, or a class of transformers with its
    configuration (no code of anybody else's runs to build it, nothing is read or fetched).
    """
    return arch.partition(":")[0] in CATALOGS or _HF_CLASS.match(arch) is not None


def _value(text: str) -> OptionValue:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def _text(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
