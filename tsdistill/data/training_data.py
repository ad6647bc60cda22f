"""Data to train on: another order every epoch, from a seed, dealt to processes before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from tsdistill.data.named_datasets import for_training
from tsdistill.data.opener import SYNTHETIC_SAMPLES, dataset_of
from tsdistill.data.training_transforms import TrainingTransform
from tsdistill.data.transforms import describe
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
        weight: the samples that were dealt to this process over an equal share of the batch: a mean over
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


def open_training(
    data: Any,
    spec: InputSpec | None,
    *,
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    samples: int | None = None,
    share: Share | None = None,
    strict: bool = False,
    transform: Mapping[str, Any] | None = None,
    pin: bool = False,
    arguments: int = 1,
) -> TrainingData:
    """The samples of ``data`` in an order that ``(seed, epoch)`` gives.

    A batch has ``batch_size`` samples over all processes, and the last, shorter one of an epoch is left out
    (a data set smaller than one batch is one batch). Which samples make up a batch depends neither on the
    number of processes nor on the workers. What a transform draws depends on seed, epoch and sample alone.

    Args:
        data: what ``tsdistill.open_data`` takes; of a named data set the training split unless it names one.
        spec: how inputs look; ``None`` takes Python data as they are.
        batch_size: samples in a batch, over all processes together.
        seed: of the order and of the transforms.
        workers: processes that read and decode for this one.
        samples: use so many of them, a random part by ``seed``; of data without numbers, so many an epoch.
        share: which process this is; the only one by default.
        strict: a sample that cannot be read is an error, not left out and counted.
        transform: options of `TrainingTransform`, for pictures; ``None`` for the evaluation transform.
        pin: put batches into page-locked memory, from which a GPU fetches faster.
        arguments: as `tsdistill.open_data` takes it.

    Raises:
        TsdistillError: the data are not there, cannot be read, do not fit the model or are fewer than the
            processes.
    """
    from tsdistill.data import indexed_training, streamed_training

    share = share or Share()
    for name, value, least in (
        ("samples", samples, 1),
        ("batch size", batch_size, 1),
        ("workers", workers, 0),
    ):
        if value is not None and value < least:
            raise TsdistillError(f"the number of {name} must be at least {least}, not {value}")
    data = for_training(data)
    dataset = dataset_of(data, spec)
    how = _How(batch_size, seed, workers, samples, share, strict, pin)
    if dataset is None:
        if transform is not None:
            raise TsdistillError("a training transform is for pictures, not for batches; leave it out")
        return streamed_training.GivenTraining(data, spec, how, arguments)
    moved = spec
    if transform is not None:
        if spec is None or not getattr(dataset, "pictures", True):
            raise TsdistillError(
                "a training transform is for pictures; these data are values used as they are"
            )
        moved = replace(spec, transform=TrainingTransform(spec, transform))
    name = getattr(dataset, "description", None) or f"samples of {type(dataset).__name__}"
    details = "" if spec is None else describe(spec, pictures=getattr(dataset, "pictures", True))
    if transform is not None:
        details += f"; training transform {TrainingTransform.words(transform)}"
    fixed = transform is None
    if isinstance(dataset, IterableDataset):
        return streamed_training.StreamTraining(dataset, moved, name, how, details, fixed)
    return indexed_training.IndexedTraining(dataset, moved, name, how, details, fixed)


@dataclass(frozen=True)
class _How:
    batch_size: int
    seed: int
    workers: int
    samples: int | None
    share: Share
    strict: bool
    pin: bool


def labels_of(dataset: Dataset) -> Any:
    """The labels of all samples of a data set that keeps them beside these, else ``None``."""
    for name in ("labels", "targets", "y"):
        found = getattr(dataset, name, None)
        if found is not None and not callable(found) and hasattr(found, "__len__"):
            return found
    numbers, paths = getattr(dataset, "classes", None), getattr(dataset, "paths", None)
    if numbers and paths is not None:
        known = {name: number for number, name in enumerate(numbers)}
        return [known.get(path.parent.name, -1) for path in paths]
    return None


def synthetic_samples(dataset: Dataset, samples: int | None) -> int | None:
    """How many samples there are when none of a number are asked for: a synthetic data set has no end."""
    return samples if samples is not None or not getattr(dataset, "synthetic", False) else SYNTHETIC_SAMPLES
