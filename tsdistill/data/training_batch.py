"""One process's part of a batch to train on, and what gives such batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from tsdistill.data.batches import check_finite
from tsdistill.data.sample_reader import Part, assemble
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec


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


@dataclass(frozen=True, eq=False)
class TrainingSamples:
    """The data set that training data are read from.

    Attributes:
        dataset: the data set.
        spec: how inputs look; ``None`` uses samples as they are.
        name: what messages call the samples.
        details: what is done to them, for the description.
        fixed: whether a sample is the same tensor every time it is read.
    """

    dataset: Any
    spec: InputSpec | None
    name: str
    details: str = ""
    fixed: bool = True


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

    def refuse(self, failures: list[tuple[int, str]]) -> str:
        """What was wrong with the first sample that could not be read; empty without one.

        Raises:
            TsdistillError: there is one, and the data are strict.
        """
        if failures and self.strict:
            raise TsdistillError(failures[0][1])
        return " ".join(failures[0][1].split()) if failures else ""


def finite_part(items: Sequence[Any], numbers: Sequence[int] | None, name: str) -> Part:
    """`assemble`, in a worker.

    Args:
        items: what `SampleReader` gave.
        numbers: the samples' numbers in the data set; ``None`` for data without numbers.
        name: what messages call the samples.

    Raises:
        TsdistillError: shapes differ, or a value is not finite.
    """
    part = assemble(items, numbers, name)
    if part.x is not None:
        check_finite(part.x, 0, f"a batch of {name}")
    return part
