"""Data to train on: a new order every epoch, from a seed; each process reads its part only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch.utils.data import IterableDataset

from tsdistill.data.indexed_training_data import IndexedTrainingData
from tsdistill.data.named_datasets import for_training
from tsdistill.data.opener import dataset_of
from tsdistill.data.sample_reader import name_of
from tsdistill.data.streamed_training_data import BatchTrainingData, StreamTrainingData
from tsdistill.data.text.text_spec import TextSpec
from tsdistill.data.training_batch import LoaderOptions, Share, TrainingData, TrainingSamples
from tsdistill.data.transforms import TrainingTransform, describe
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec


def open_training(
    data: Any,
    spec: InputSpec | TextSpec | None,
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
        spec: how inputs look, of text what `tsdistill.text_spec` says; ``None`` takes Python data as
            they are.
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
    share = share or Share()
    for name, value, least in (
        ("samples", samples, 1),
        ("batch size", batch_size, 1),
        ("workers", workers, 0),
    ):
        if value is not None and value < least:
            raise TsdistillError(f"the number of {name} must be at least {least}, not {value}")
    data = for_training(data)
    dataset, data = dataset_of(data, spec)
    if isinstance(spec, TextSpec):
        spec = None
    options = LoaderOptions(batch_size, seed, workers, samples, share, strict, pin)
    if dataset is None:
        if transform is not None:
            raise TsdistillError("a training transform is for pictures, not for batches; leave it out")
        return BatchTrainingData(data, spec, options, arguments)
    training_spec = spec
    if transform is not None:
        if spec is None or not getattr(dataset, "pictures", True):
            raise TsdistillError(
                "a training transform is for pictures; these data are values used as they are"
            )
        training_spec = replace(spec, transform=TrainingTransform(spec, transform))
    details = "" if spec is None else describe(spec, pictures=getattr(dataset, "pictures", True))
    if transform is not None:
        words = ", ".join(f"{key} {value}" for key, value in transform.items())
        details += f"; training transform {words or 'as timm sets it'}"
    read = TrainingSamples(dataset, training_spec, name_of(dataset), details, fixed=transform is None)
    kind = StreamTrainingData if isinstance(dataset, IterableDataset) else IndexedTrainingData
    return kind(read, options)
