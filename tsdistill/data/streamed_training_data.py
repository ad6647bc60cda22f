"""Training data that come in their own order: streams from several workers, and batches from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tsdistill.data.batches import LABEL_KEYS
from tsdistill.data.batches import batch_size as size_of
from tsdistill.data.sample_reader import SampleReader, length_of, loader
from tsdistill.data.sample_source import BatchSource
from tsdistill.data.targets import cut_target
from tsdistill.data.training_batch import LoaderOptions, Share, TrainingBatch, TrainingSamples, finite_part
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec
from tsdistill.options.option_fields import written
from tsdistill.runtime.nests import cut
from tsdistill.runtime.seeds import mixed_seed, seeded_draws

BUFFER = 512
"""Samples in the shuffle buffer, from which the next one is drawn at random. They are read but not decoded
further: 512 compressed pictures of 100 kB take 50 MB in each worker.
"""

_SHARDS_ITSELF = ("datasets.", "webdataset.", "timm.")
"""Packages whose streams give each worker its own shards (the first parts of their modules' names)."""

_LABEL_KEYS = (*LABEL_KEYS, "cls", "fine_label")


class _ShardedStream(IterableDataset):
    """The samples of a stream that one worker of one process reads, shuffled in a buffer.

    Hugging Face's streams, webdataset's and timm's distribute their shards to workers themselves, and so does
    a data set with a true attribute ``shares_itself``. Of any other stream, worker ``i`` of ``n`` takes the
    items ``i``, ``i + n``, ``i + 2 n`` and so on.
    """

    def __init__(self, samples: TrainingSamples, options: LoaderOptions, epoch: int) -> None:
        self._dataset, self._name, self._options, self._epoch = samples.dataset, samples.name, options, epoch
        self._reader = SampleReader(samples.dataset, samples.spec, samples.name)

    def _items(self) -> Iterator[Any]:
        share: Share = self._options.share
        info = get_worker_info()
        own = (share.number, share.of) if info is None else (
            share.number * info.num_workers + info.id, share.of * info.num_workers
        )  # fmt: skip
        dataset, module = self._dataset, f"{type(self._dataset).__module__}."
        if module.startswith("datasets."):
            from datasets.distributed import split_dataset_by_node

            dataset.set_epoch(self._epoch)
            dataset = split_dataset_by_node(dataset, share.number, share.of) if share.of > 1 else dataset
        elif hasattr(dataset, "set_epoch"):
            dataset.set_epoch(self._epoch)
        itself = module.startswith(_SHARDS_ITSELF) or getattr(dataset, "shares_itself", False)
        yield from dataset if itself else islice(iter(dataset), own[0], None, own[1])

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        numbers = (self._options.seed, self._epoch, self._options.share.number, worker)
        generator = torch.Generator().manual_seed(mixed_seed(*numbers, 3))
        try:
            for place, item in enumerate(_shuffled(self._items(), generator)):
                with seeded_draws(*numbers, place):
                    ready = self._reader.attempt("a sample", as_pair, item)
                yield ready
        except TsdistillError as error:
            raise TsdistillError(str(error)) from None
        except Exception as error:  # a data set may raise anything
            raise TsdistillError(f"cannot read {self._name}: {cause_of(error)}") from None


def as_pair(item: Any) -> Any:
    """``(x, y)`` of a mapping that holds a picture (under ``image``, ``jpg`` ...); anything else as it is."""
    if not isinstance(item, Mapping):
        return item
    picture = next((value for value in item.values() if hasattr(value, "getbands")), None)
    label = next((item[key] for key in _LABEL_KEYS if key in item), None)
    if picture is not None:
        return picture, label
    return item if label is None else ({k: v for k, v in item.items() if k not in _LABEL_KEYS}, label)


def _shuffled(items: Iterator[Any], generator: torch.Generator) -> Iterator[Any]:
    held: list[Any] = []
    for item in items:
        if len(held) < BUFFER:
            held.append(item)
            continue
        place = int(torch.randint(BUFFER, (1,), generator=generator))
        held[place], item = item, held[place]
        yield item
    for place in torch.randperm(len(held), generator=generator).tolist():
        yield held[place]


class StreamTrainingData:
    """An iterable data set, shuffled in a buffer, from as many workers as there are.

    The order depends on seed, epoch, and the numbers of processes and workers. To resume in the middle of an
    epoch, the samples before that point are read once more.

    Args:
        samples: the data set and what is known of it.
        options: how the data are read.

    Raises:
        TsdistillError: the batch cannot be divided evenly among the processes.
    """

    numbers: int | None = None
    repeatable = False
    labels = None

    def __init__(self, samples: TrainingSamples, options: LoaderOptions) -> None:
        self.name, self.fixed = samples.name, samples.fixed
        self._samples, self._options = samples, options
        self.samples = options.samples
        if self.samples is None:
            self.samples = _length(samples.dataset, options.share)
        self.batch_size = options.batch_size
        self.length = None if self.samples is None else max(1, self.samples // self.batch_size)
        if options.batch_size % options.share.of:
            raise TsdistillError(
                f"a batch of {options.batch_size} samples of a stream cannot be divided evenly among "
                f"{options.share.of} processes; give a {written('batch_size')} that can"
            )
        number = "" if self.samples is None else f"{self.samples} "
        self.description = "; ".join(
            part for part in (f"{number}{self.name}", "streamed", samples.details) if part
        )

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """This process's parts of the batches of an epoch, from number ``start`` on.

        Raises:
            TsdistillError: the stream cannot be read, or a sample of a strict one.
        """
        options = self._options
        batches = loader(
            _ShardedStream(self._samples, options, epoch),
            seed=mixed_seed(options.seed, epoch),
            workers=options.workers,
            collate=partial(finite_part, numbers=None, name=self.name),
            batch_size=options.batch_size // options.share.of,
            pin=options.pin,
            drop_last=self.samples is None or self.samples >= options.batch_size,
        )
        read = 0
        for number, part in enumerate(islice(batches, self.length)):
            complaint = options.refuse(part.failures)
            if part.x is None:
                raise TsdistillError(f"nothing of a batch of {self.name} can be read: {complaint}")
            read += size_of(part.x)
            if number >= start:
                yield TrainingBatch(part.x, part.y, None, number, 1.0, len(part.failures), complaint)
        if not read:
            raise TsdistillError(
                f"{self.name} gives no whole batch of {options.batch_size} samples to each of its "
                f"{options.workers} workers; give fewer {written('workers')} or a smaller "
                f"{written('batch_size')}"
            )


class BatchTrainingData:
    """Batches that the caller gives, in their order; each process takes its rows of every batch."""

    numbers: int | None = None
    fixed: bool = True
    repeatable = False
    labels = None

    def __init__(self, data: Any, spec: InputSpec | None, options: LoaderOptions, arguments: int = 1) -> None:
        self.name = "samples of the given batches"
        self._source = BatchSource(data, spec, self.name, options.seed, arguments)
        self._options = options
        self.samples = self._source.total if options.samples is None else options.samples
        first = next(self._source.batches(0, None, options.batch_size), None)
        if first is None:
            raise TsdistillError(f"{self.name}: there are none; give at least one batch")
        self.batch_size = size_of(first[0])
        self.length = (
            len(data) if isinstance(data, (list, tuple, DataLoader)) and options.samples is None else None
        )
        self.description = f"{self.samples or 'some'} {self.name}, as they are given"

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:  # noqa: ARG002
        """This process's rows of the batches, from number ``start`` on, in their order."""
        share: Share = self._options.share
        for number, (x, y) in enumerate(
            self._source.batches(0, self._options.samples, self._options.batch_size)
        ):
            count = size_of(x)
            if number < start:
                continue
            low, high = (count * place // share.of for place in (share.number, share.number + 1))
            if low == high:
                raise TsdistillError(
                    f"a batch of {count} samples cannot be divided among {share.of} processes"
                )
            part = (cut(x, low, high), cut_target(y, low, high, count)) if share.of > 1 else (x, y)
            yield TrainingBatch(*part, None, number, (high - low) * share.of / count)


def _length(dataset: Any, share: Share) -> int | None:
    """The number of samples over all processes, ``None`` when it is not known.

    A stream of timm has the length of one process's part.
    """
    samples = length_of(dataset)
    of_part = samples is not None and type(dataset).__module__.startswith("timm.")
    return samples * share.of if of_part and samples else samples
