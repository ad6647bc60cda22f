"""Strategies by what the user writes: ``NAME[:option=value,...]``, several joined by ``+``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor

from tsdistill import plugins
from tsdistill.augmentation.application import augmented, expansion, needs_teacher, prepared
from tsdistill.augmentation.strategy_protocol import MixesLabels, Setting, Strategy
from tsdistill.errors import TsdistillError
from tsdistill.plugins import NamedObject
from tsdistill.plugins.option_text import option_values


def opened(text: str | Strategy) -> Strategy:
    """The strategy that ``text`` names or is, not yet prepared.

    Args:
        text: ``standard``, ``teacher-aware:steps=3,share=0.5``, ``standard+mixup``, ...; strategies joined by
            ``+`` are applied one after the other.

    Raises:
        TsdistillError: a name that is not registered, an option that the strategy does not have, a value that
            does not suit it, or two strategies that mix labels.
    """
    if isinstance(text, NamedObject):
        return text.thing
    if not isinstance(text, str):
        return text
    return chained([_one(part.strip()) for part in text.split("+")], text)


def chained(parts: Sequence[Strategy], text: str) -> Strategy:
    """Strategies applied one after the other; ``text`` is what messages call them.

    Raises:
        TsdistillError: two strategies that mix labels, or one that is not the last.
    """
    if len(parts) == 1:
        return parts[0]
    mixing = [part for part in parts if isinstance(part, MixesLabels)]
    if mixing and (len(mixing) > 1 or mixing[0] is not parts[-1]):
        raise TsdistillError(f"of {text!r}, only the last strategy can be one that mixes samples")
    return MixingChain(parts) if mixing else Chain(parts)


class Chain:
    """Strategies one after the other.

    Args:
        parts: at least one strategy.
    """

    def __init__(self, parts: Sequence[Strategy]) -> None:
        self.parts = tuple(parts)
        self.needs_teacher = any(needs_teacher(part) for part in self.parts)
        self.expands = 1
        for part in self.parts:
            self.expands *= expansion(part)

    def prepare(self, setting: Setting) -> Chain:
        """A chain of the parts, each made ready on the samples as they come."""
        return type(self)([prepared(part, setting) for part in self.parts])

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """The batch that the last part makes."""
        for part in self.parts:
            x, _ = augmented(part, x, None, generator)
        return x


class MixingChain(Chain):
    """Strategies one after the other of which the last mixes samples."""

    def mix(self, x: Tensor, y: Tensor, classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """What the last part makes, and the mixed labels."""
        labels: Any = y
        for part in self.parts:
            x, labels = augmented(part, x, labels, generator, classes)
        return x, labels


def _one(text: str) -> Strategy:
    name, _, options = text.partition(":")
    strategy: Strategy = plugins.get("augmentation", name)
    if not options:
        return strategy
    values = option_values(options, _options(strategy), f"the augmentation {name}")
    return dataclasses.replace(strategy, **values)  # type: ignore[type-var]


def _options(strategy: Strategy) -> dict[str, Any]:
    """Fields with a plain default, each with what it is now."""
    if not dataclasses.is_dataclass(strategy):
        return {}
    values = {field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy)}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}
