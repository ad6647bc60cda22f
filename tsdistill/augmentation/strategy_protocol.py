"""What a strategy of augmentation is, and what it may ask for beyond the samples.

A strategy is a callable ``strategy(x, generator) -> x`` on a batch of samples. That is all it has to be: as
many samples of the same shape, dtype and device come back, so that labels stay with them, and everything
random is drawn from ``generator`` (on the CPU). The attributes of `Strategy` beyond that are optional; who
uses a strategy goes through `tsdistill.augmentation.prepared` (once, before the first batch) and
`tsdistill.augmentation.augmented` (every batch), which know them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor, nn


class Strategy(Protocol):
    """What ``register_augmentations`` takes.

    Optional attributes:
        needs_teacher (bool): it moves samples by what a teacher computes; it is refused where there is none.
        expands (int): how many samples it makes of each, 1 without it. Of ``n`` samples ``expands * n`` come
            back, in blocks: sample ``i`` of each block is made from sample ``i`` of the batch, so
            ``y.repeat(expands)`` are their labels.
        help (str): one line that says what it does and when theory or measurement favours it; the first
            paragraph of the docstring is shown without it.

    A frozen dataclass takes options by its fields: ``NAME:field=value,field=value``.
    """

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """A batch ``(samples, ...)`` made from the batch ``x``."""


@dataclass(frozen=True)
class Setting:
    """What a strategy that has ``prepare`` gets before the first batch.

    Attributes:
        teacher: the model whose nodes are meant, in eval mode on the device of the samples, or ``None``.
        batches: gives the batches ``x`` of a pass over (some of) the data; may be called several times.
        generator: a seeded generator on the CPU; equal seeds prepare equal strategies.
        mean: per-channel mean that the samples were normalised with, if that is known.
        std: per-channel standard deviation, likewise.
    """

    teacher: nn.Module | None
    batches: Callable[[], Iterable[Tensor]]
    generator: Generator
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@runtime_checkable
class Prepares(Protocol):
    """A strategy that looks at the teacher and at data before it is used."""

    def prepare(self, setting: Setting) -> Strategy:
        """The strategy to use from now on; this one stays as it is."""


@runtime_checkable
class MixesLabels(Protocol):
    """A strategy whose samples are mixtures of several, so that their labels are, too."""

    def mix(self, x: Tensor, y: Any, classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mixed samples and their labels.

        Args:
            x: the batch ``(n, ...)``.
            y: class numbers, int64 ``(n,)``.
            classes: how many classes there are.
            generator: of everything random; equal states give the same ``x`` as ``__call__``.

        Returns:
            ``x`` and float labels ``(n, classes)``, each row summing to 1.
        """
