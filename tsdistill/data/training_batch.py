"""One process's part of a batch to train on, and what gives such batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Which of several processes this one is: ``number`` of ``of``."""

    number: int = 0
    of: int = 1


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """This process's part of one batch.

    Attributes:
        x: ``(n, *input size)``, or what else a batch is made of.
        y: labels ``(n,)``, or ``None``.
        index: numbers of the samples in the data set, int64 ``(n,)``; ``None`` for data without numbers.
        number: of the batch in its epoch, from 0.
        weight: the samples of the batch that are this process's over an equal share of the batch: a mean over
            ``n`` samples times this, averaged over all processes, is the mean over the batch.
        skipped: samples of it that could not be read and were left out.
        complaint: what was wrong with the first of these.
    """

    x: Any
    y: Any
    index: Tensor | None
    number: int
    weight: float = 1.0
    skipped: int = 0
    complaint: str = ""


class TrainingData(Protocol):
    """What a training reads.

    Attributes:
        name: what the samples are called.
        samples: how many there are, ``None`` when that is not known.
        length: batches in an epoch, likewise.
        batch_size: samples in a batch over all processes.
        numbers: one more than the largest number that a sample has, ``None`` for data without numbers.
        fixed: whether a sample is the same tensor every time it is read.
        repeatable: whether another run surely reads the same samples where nothing has changed: not of
            streams, nor of data sets of the caller's, which may draw random numbers of their own.
        labels: the labels of all samples where they are known without reading these, else ``None``.
        description: what the data are, for people.
    """

    name: str
    samples: int | None
    length: int | None
    batch_size: int
    numbers: int | None
    fixed: bool
    repeatable: bool
    labels: Any
    description: str

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """This process's parts of the batches of an epoch, from number ``start`` on."""


@dataclass(frozen=True)
class LoaderOptions:
    """How training data are read; see `tsdistill.data.training_data.open_training` for each."""

    batch_size: int
    seed: int
    workers: int
    samples: int | None
    share: Share
    strict: bool
    pin: bool
