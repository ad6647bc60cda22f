"""Sources of a stream's samples: data sets with an index, iterable data sets, batches from Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, IterableDataset

from tsdistill.data.arrays import ArraySamples
from tsdistill.data.batches import batch_size as size_of
from tsdistill.data.batches import split_batch
from tsdistill.data.sample_reader import (
    Batch,
    SampleReader,
    Unreadable,
    assemble,
    length_of,
    loader,
    unchanged,
)
from tsdistill.data.targets import cut_target
from tsdistill.data.transforms import is_image
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec
from tsdistill.runtime.exclusive import exclusive
from tsdistill.runtime.nests import cut


class SampleSource(Protocol):
    """A source of the batches of a stream.

    Attributes:
        total: how many samples there are, ``None`` when that is not known.
        name: what they are called.
        random: whether a part is a random one.
        unreadable: samples that could not be read so far, which are in no batch.
    """

    total: int | None
    name: str
    random: bool
    unreadable: Unreadable

    def batches(self, skip: int, samples: int | None, size: int) -> Iterator[Batch]:
        """Batches of the samples at positions ``skip`` to ``skip + samples`` of a fixed order.

        Args:
            skip: position of the first sample.
            samples: how many; ``None`` for all that follow.
            size: samples in a batch; the last one may be shorter.
        """

    def available(self, stop: int | None) -> int | None:
        """How many of the first ``stop`` samples there are (of all samples where that is ``None``).

        Args:
            stop: number of samples that are wanted.

        Returns:
            ``None`` where only a pass over the samples would tell.
        """
        total = self.total
        return total if stop is None or total is None else min(stop, total)


class PrivateRandom:
    """Runs the steps of an iterator with a private state of torch's global generator."""

    def __init__(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()

    def step(self, iterator: Iterator[Any] | Iterable[Any], start: bool = False) -> Any:
        """``next(iterator)``, or ``iter(iterator)`` when starting; the global generator stays as it was."""
        with exclusive():
            outside = torch.get_rng_state()
            torch.set_rng_state(self._state)
            try:
                return iter(iterator) if start else next(iterator)  # type: ignore[arg-type]
            finally:
                self._state = torch.get_rng_state()
                torch.set_rng_state(outside)

    def iterate(self, iterable: Iterable[Any]) -> Iterator[Any]:
        """The items of ``iterable``."""
        iterator = self.step(iterable, start=True)
        while True:
            try:
                item = self.step(iterator)
            except StopIteration:
                return
            yield item


class IndexedSource(SampleSource):
    """A map-style data set in a seeded random order; the whole of it in its own order.

    A synthetic one has no end: position ``p`` under ``seed`` is its index ``seed * 2**32 + p``.
    """

    random = True

    def __init__(
        self,
        dataset: Any,
        spec: InputSpec | None,
        name: str,
        seed: int,
        workers: int,
        strict: bool = False,
    ) -> None:
        self.unreadable = Unreadable(strict)
        self.name, self._seed, self._workers = name, seed, workers
        self._endless = bool(getattr(dataset, "synthetic", False))
        self._prepared = SampleReader(dataset, spec, name)
        self.total = None if self._endless else len(dataset)

    def _indices(self, skip: int, samples: int | None) -> Sequence[int]:
        if self.total is None:
            start = (self._seed % 2**31) * 2**32 + skip
            return range(start, start + (samples or 0))
        stop = self.total if samples is None else min(self.total, skip + samples)
        if not skip and stop == self.total:
            return range(self.total)
        order = torch.randperm(self.total, generator=torch.Generator().manual_seed(self._seed))
        return order[skip:stop].tolist()

    def batches(self, skip: int, samples: int | None, size: int) -> Iterator[Batch]:
        """See `SampleSource.batches`; a batch is shorter by samples that cannot be read."""
        batches = loader(
            self._prepared,
            seed=self._seed,
            workers=self._workers,
            collate=list,
            batch_size=size,
            sampler=self._indices(skip, samples),
        )
        yield from _read(PrivateRandom(self._seed).iterate(batches), skip, self.name, self.unreadable)


class IterableSource(SampleSource):
    """An iterable data set, in the order in which it comes."""

    random = False

    def __init__(
        self,
        dataset: IterableDataset,
        spec: InputSpec | None,
        name: str,
        seed: int,
        strict: bool = False,
    ) -> None:
        self.unreadable = Unreadable(strict)
        self.name, self._dataset, self._seed = name, dataset, seed
        self._prepared = SampleReader(dataset, spec, name)
        self.total = length_of(dataset) or None

    def _items(self) -> Iterator[Any]:
        try:
            yield from PrivateRandom(self._seed).iterate(self._dataset)
        except TsdistillError:
            raise
        except Exception as error:  # a data set may raise anything
            raise TsdistillError(f"cannot read {self.name}: {cause_of(error)}") from error

    def batches(self, skip: int, samples: int | None, size: int) -> Iterator[Batch]:
        """See `SampleSource.batches`; a batch is shorter by samples that cannot be read."""
        stop = None if samples is None else skip + samples
        numbered = islice(enumerate(self._items()), skip, stop)
        samples_read = (self._prepared.attempt(f"sample {n}", unchanged, item) for n, item in numbered)
        parts = iter(lambda: list(islice(samples_read, size)), [])
        yield from _read(parts, skip, self.name, self.unreadable)


def _read(parts: Iterable[list[Any]], first: int, name: str, unreadable: Unreadable) -> Iterator[Batch]:
    """The batches of samples that `SampleReader` gave, the first of them at position ``first``."""
    for items in parts:
        part = assemble(items, None, name)
        unreadable.add(part, first)
        first += len(items)
        if part.x is not None:
            yield part.x, part.y


class KeptItems:
    """The items of an iterator, which are kept in memory so that they can be read again.

    Args:
        items: the iterator; it is read no further than is asked for.
    """

    def __init__(self, items: Iterator[Any]) -> None:
        self._items, self._kept = items, list[Any]()

    def __iter__(self) -> Iterator[Any]:
        place = 0
        while True:
            if place == len(self._kept):
                try:
                    self._kept.append(next(self._items))
                except StopIteration:
                    return
            yield self._kept[place]
            place += 1


class BatchSource(SampleSource):
    """Batches that the caller gives: a sequence, a ``DataLoader``, any iterable, or an iterator, which is
    read once.

    The batches of an iterator are kept in memory, so that the same samples can be read again. Those that a
    stream is made of are read when it is made: how many there are decides how much is looked at in each.
    """

    random = False

    def __init__(
        self, batches: Iterable[Any], spec: InputSpec | None, name: str, seed: int, arguments: int = 1
    ) -> None:
        self._arguments = arguments
        self.name, self._spec, self._seed = name, spec, seed
        self.unreadable = Unreadable()
        self._batches = batches
        self._kept = KeptItems(map(self._ready, batches)) if isinstance(batches, Iterator) else None
        generator = getattr(batches, "generator", None)
        self._generator = generator if isinstance(generator, torch.Generator) else None
        self._state = self._generator.get_state() if self._generator is not None else None
        self.total = self._count()

    def _count(self) -> int | None:
        if isinstance(self._batches, (list, tuple)):
            return sum(size_of(split_batch(batch, self._arguments)[0]) for batch in self._batches)
        if isinstance(self._batches, DataLoader) and not self._batches.drop_last:
            stream = isinstance(self._batches.dataset, IterableDataset)
            return None if stream else length_of(self._batches.sampler)
        return None

    def available(self, stop: int | None) -> int | None:
        """See `SampleSource.available`."""
        if self.total is None and self._kept is not None:
            count = 0
            for x, _ in self._items():
                count += size_of(x)
                if stop is not None and count >= stop:
                    return stop
            self.total = count
        return super().available(stop)

    def _items(self) -> Iterator[Batch]:
        if self._kept is not None:
            yield from self._kept
            return
        if self._generator is not None and self._state is not None:
            self._generator.set_state(self._state)
        for batch in PrivateRandom(self._seed).iterate(self._batches):
            yield self._ready(batch)

    def _ready(self, batch: Any) -> Batch:
        x, y = split_batch(batch, self._arguments)
        if self._spec is None or not isinstance(x, torch.Tensor):
            return x, y
        if tuple(x.shape[1:]) == tuple(self._spec.size) and x.dtype == torch.float32:
            return x, y
        if x.dtype != torch.uint8 and is_image(self._spec) and self._spec.transform is not None:
            return x, y
        rows = ArraySamples(x, None, self._spec, self.name)
        return torch.stack([rows[i][0] for i in range(len(rows))]), y

    def batches(self, skip: int, samples: int | None, size: int) -> Iterator[Batch]:  # noqa: ARG002
        """The batches as they were given, cut where the part begins and ends; ``size`` is not used."""
        stop = None if samples is None else skip + samples
        position = 0
        if stop == 0:
            return
        for x, y in self._items():
            count = size_of(x)
            low = max(0, skip - position)
            high = count if stop is None else min(count, stop - position)
            if low < high:
                whole = low == 0 and high == count
                yield (x, y) if whole else (cut(x, low, high), cut_target(y, low, high, count))
            position += count
            if stop is not None and position >= stop:
                return
