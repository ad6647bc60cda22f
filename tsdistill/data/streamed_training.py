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
from tsdistill.data.sample_reader import SampleReader, assemble, loader
from tsdistill.data.sample_source import GivenBacking
from tsdistill.data.targets import cut_target
from tsdistill.data.training_batch import Share, TrainingBatch
from tsdistill.data.unreadable import Failure
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec
from tsdistill.runtime.nests import cut
from tsdistill.runtime.seeds import drawing, mixed_seed

BUFFER = 512
"""Of so many samples, read but not decoded further, the next one is drawn at random."""

_SHARES_ITSELF = ("datasets.", "webdataset.", "timm.")
_LABELS = (*LABEL_KEYS, "cls", "fine_label")


class _Dealt(IterableDataset):
    """The samples of a stream that one worker of one process reads, shuffled in a buffer.

    Hugging Face's streams, webdataset's and timm's deal their own shards to workers, and so does any data set
    with a true attribute ``shares_itself``; of others every worker takes each so-many-th item.
    """

    def __init__(self, dataset: Any, spec: InputSpec | None, name: str, how: Any, epoch: int) -> None:
        self._dataset, self._name, self._how, self._epoch = dataset, name, how, epoch
        self._reading = SampleReader(dataset, spec, name)

    def _items(self) -> Iterator[Any]:
        share: Share = self._how.share
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
        itself = module.startswith(_SHARES_ITSELF) or getattr(dataset, "shares_itself", False)
        yield from dataset if itself else islice(iter(dataset), own[0], None, own[1])

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        numbers = (self._how.seed, self._epoch, self._how.share.number, worker)
        generator = torch.Generator().manual_seed(mixed_seed(*numbers, 3))
        try:
            for place, item in enumerate(_shuffled(self._items(), generator)):
                yield self._ready(item, (*numbers, place))
        except TsdistillError as error:
            raise TsdistillError(str(error)) from None
        except Exception as error:  # a data set may raise anything
            raise TsdistillError(f"cannot read {self._name}: {cause_of(error)}") from None

    def _ready(self, item: Any, numbers: tuple[int, ...]) -> Any:
        try:
            with drawing(*numbers):
                return self._reading.prepare(as_pair(item))
        except TsdistillError as error:
            return Failure(error)
        except Exception as error:  # a picture that cannot be decoded, a transform that fails
            return Failure(f"cannot read a sample of {self._name}: {type(error).__name__}: {error}")


def as_pair(item: Any) -> Any:
    """``(x, y)`` of a mapping that holds a picture (under ``image``, ``jpg`` ...); anything else as it is."""
    if not isinstance(item, Mapping):
        return item
    picture = next((value for value in item.values() if hasattr(value, "getbands")), None)
    label = next((item[key] for key in _LABELS if key in item), None)
    if picture is not None:
        return picture, label
    return item if label is None else ({k: v for k, v in item.items() if k not in _LABELS}, label)


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


class StreamTraining:
    """An iterable data set, shuffled in a buffer, from as many workers as there are.

    The order depends on seed, epoch, and the numbers of processes and workers. Going on in the middle of an
    epoch reads what comes before once more.
    """

    numbers: int | None = None
    repeatable = False
    labels = None

    def __init__(
        self, dataset: Any, spec: InputSpec | None, name: str, how: Any, details: str = "", fixed: bool = True
    ) -> None:
        self.name, self.fixed = name, fixed
        self._dataset, self._spec, self._how = dataset, spec, how
        known = _length(dataset, how.share)
        self.samples = how.samples if how.samples is not None else known
        self.batch_size = how.batch_size
        self.length = None if self.samples is None else max(1, self.samples // self.batch_size)
        if how.batch_size % how.share.of:
            raise TsdistillError(
                f"a batch of {how.batch_size} samples of a stream cannot be dealt evenly to {how.share.of} "
                "processes; give a --batch-size that can"
            )
        number = "" if self.samples is None else f"{self.samples} "
        self.description = "; ".join(part for part in (f"{number}{name}", "streamed", details) if part)

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """This process's parts of the batches of an epoch, from number ``start`` on.

        Raises:
            TsdistillError: the stream cannot be read, or a sample of a strict one.
        """
        how = self._how
        batches = loader(
            _Dealt(self._dataset, self._spec, self.name, how, epoch),
            seed=mixed_seed(how.seed, epoch),
            workers=how.workers,
            collate=partial(assemble, numbers=None, name=self.name),
            batch_size=how.batch_size // how.share.of,
            pin=how.pin,
            drop_last=self.samples is None or self.samples >= how.batch_size,
        )
        read = 0
        for number, part in enumerate(islice(batches, self.length)):
            x, y, _, failures = part
            if failures and how.strict:
                raise TsdistillError(failures[0])
            if x is None:
                raise TsdistillError(f"nothing of a batch of {self.name} can be read: {failures[0]}")
            read += size_of(x)
            if number >= start:
                said = " ".join(failures[0].split()) if failures else ""
                yield TrainingBatch(x, y, None, number, 1.0, len(failures), said)
        if not read:
            raise TsdistillError(
                f"{self.name} gives no whole batch of {how.batch_size} samples to each of its {how.workers} "
                "workers; give fewer --workers or a smaller --batch-size"
            )


class GivenTraining:
    """Batches that the caller gives, in their order; each process takes its rows of every batch."""

    numbers: int | None = None
    fixed: bool = True
    repeatable = False
    labels = None

    def __init__(self, data: Any, spec: InputSpec | None, how: Any, arguments: int = 1) -> None:
        self.name = "samples of the given batches"
        self._backing = GivenBacking(data, spec, self.name, how.seed, arguments)
        self._how = how
        self.samples = self._backing.total if how.samples is None else how.samples
        first = next(self._backing.batches(0, None, how.batch_size), None)
        if first is None:
            raise TsdistillError(f"{self.name}: there are none; give at least one batch")
        self.batch_size = size_of(first[0])
        self.length = (
            len(data) if isinstance(data, (list, tuple, DataLoader)) and how.samples is None else None
        )
        self.description = f"{self.samples or 'some'} {self.name}, as they are given"

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """This process's rows of the batches, from number ``start`` on, in their order."""
        share: Share = self._how.share
        for number, (x, y) in enumerate(self._backing.batches(0, self._how.samples, self._how.batch_size)):
            count = size_of(x)
            if number < start:
                continue
            low, high = (count * place // share.of for place in (share.number, share.number + 1))
            if low == high:
                raise TsdistillError(f"a batch of {count} samples cannot be dealt to {share.of} processes")
            mine = (cut(x, low, high), cut_target(y, low, high, count)) if share.of > 1 else (x, y)
            yield TrainingBatch(*mine, None, number, (high - low) * share.of / count)


def _length(dataset: Any, share: Share) -> int | None:
    """How many samples all processes find together; timm's streams say how many each does."""
    try:
        found = len(dataset)
    except (TypeError, NotImplementedError, AttributeError, ValueError):
        return None
    return found * share.of if type(dataset).__module__.startswith("timm.") else found
