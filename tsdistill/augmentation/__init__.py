"""Strategies that make or move samples; by name through ``plugins.get("augmentation", name)``.

``opened(text)`` reads ``NAME[:option=value,...][+NAME...]``; ``prepared(strategy, setting)`` makes it ready;
``augmented(strategy, x, y, generator, classes)`` gives the batch to use and its labels.
"""

from tsdistill.augmentation.applying import augmented, expansion, needs_teacher, prepared
from tsdistill.augmentation.naming import opened
from tsdistill.augmentation.protocol import MixesLabels, Prepares, Setting, Strategy

__all__ = [
    "MixesLabels",
    "Prepares",
    "Setting",
    "Strategy",
    "augmented",
    "expansion",
    "needs_teacher",
    "opened",
    "prepared",
]
