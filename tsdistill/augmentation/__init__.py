"""Strategies that make or move samples; by name through ``plugins.get("augmentation", name)``.

``opened(text)`` reads ``NAME[:option=value,...][+NAME...]``; ``prepared(strategy, setting)`` makes it ready;
``augmented(strategy, x, y, generator, classes)`` gives the batch to use and its labels.
"""

from tsdistill.augmentation.application import augmented, expansion, needs_teacher, prepared
from tsdistill.augmentation.strategy_protocol import MixesLabels, Prepares, Setting, Strategy
from tsdistill.augmentation.strategy_syntax import chained, opened

__all__ = [
    "MixesLabels",
    "Prepares",
    "Setting",
    "Strategy",
    "augmented",
    "chained",
    "expansion",
    "needs_teacher",
    "opened",
    "prepared",
]
