"""Training data with an index: shuffled, sharded over processes, and read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from tsdistill.data.arrays import ArraySamples
from tsdistill.data.batches import check_finite
from tsdistill.data.opener import synthetic_samples
from tsdistill.data.sample_reader import Part, SampleReader, assemble, loader
from tsdistill.data.targets import labels_of
from tsdistill.data.training_batch import LoaderOptions, Share, TrainingBatch
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec
from tsdistill.options.option_fields import written
from tsdistill.runtime.seeds import mixed_seed, seeded_draws

_REPLACEMENT_TRIES = 64
"""Samples that are tried in place of a part of a batch of which none can be read. Where half of a data set is
unreadable, 64 failures in a row have probability 2**-64; a data set of which nothing can be read fails soon.
"""


class _IndexedParts(Dataset):
    """Reads parts of batches, ``[(epoch, sample), ...]`` in one call, with one seed for each sample."""

    def __init__(self, reader: SampleReader, dataset: Any, name: str, seed: int, drawn: bool) -> None:
        self._reader, self._dataset, self._name, self._seed = reader, dataset, name, seed
        self._drawn = drawn
        self._whole = isinstance(dataset, ArraySamples)

    def __getitem__(self, wanted: Sequence[tuple[int, int]]) -> Part:
        numbers = [number for _, number in wanted]
        if self._whole:
            x, y = self._dataset.take(numbers)
            check_finite(x, 0, f"a batch of {self._name}")
            return Part((x, y, torch.tensor(numbers), []))
        return assemble([self._read(*each) for each in wanted], numbers, self._name)

    def _read(self, epoch: int, number: int) -> Any:
        if not self._drawn:
            return self._reader[number]
        with seeded_draws(self._seed, epoch, number):
            return self._reader[number]


def _unchanged(part: Part) -> Part:
    return part


class _EpochSampler:
    """The parts of an epoch's batches that go to one process."""

    def __init__(self, size: int, share: Share) -> None:
        self._size, self._share = size, share
        self._epoch, self._start, self._numbers = 0, 0, torch.empty(0, dtype=torch.int64)

    def set(self, epoch: int, start: int, numbers: Tensor) -> None:
        """Go through ``numbers``, from batch ``start`` on.

        Args:
            epoch: number of the epoch.
            start: number of the first batch.
            numbers: int64 ``(samples,)``, the samples in the order of the epoch.
        """
        self._epoch, self._start, self._numbers = epoch, start, numbers

    def __len__(self) -> int:
        return max(0, len(self._numbers) // self._size - self._start)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(self._start, self._start + len(self)):
            first = batch * self._size
            part = self._numbers[first + self._share.number : first + self._size : self._share.of]
            yield [(self._epoch, number) for number in part.tolist()]


class IndexedTrainingData:
    """A map-style data set, in a random order that ``(seed, epoch)`` gives (see ``open_training``).

    Args:
        dataset: the data set.
        spec: how inputs look; ``None`` uses samples as they are.
        name: what messages call the samples.
        options: how the data are read.
        details: what is done to the samples, for the description.
        fixed: whether a sample is the same tensor every time it is read.

    Raises:
        TsdistillError: there are no samples, or fewer in a batch than there are processes.
    """

    def __init__(
        self,
        dataset: Any,
        spec: InputSpec | None,
        name: str,
        options: LoaderOptions,
        details: str = "",
        fixed: bool = True,
    ) -> None:
        self.name, self._options, self.fixed = name, options, fixed
        self._synthetic = bool(getattr(dataset, "synthetic", False))
        wanted = synthetic_samples(dataset, options.samples)
        size = wanted if self._synthetic else len(dataset)
        assert size is not None
        if not size:
            raise TsdistillError(f"{name} has no samples; give some")
        self._used = size if wanted is None else min(size, wanted)
        self.samples: int | None = self._used
        self._size = size
        self.numbers: int | None = size
        self._first = (options.seed % 2**31) * 2**32 if self._synthetic else 0
        self.batch_size = min(options.batch_size, self._used)
        if self.batch_size < options.share.of:
            raise TsdistillError(
                f"a batch of {self.batch_size} samples cannot be divided among {options.share.of} processes; "
                f"start fewer, or give a larger {written('batch_size')}"
            )
        self.length: int | None = self._used // self.batch_size
        self.labels = None if self._synthetic else labels_of(dataset)
        which = f"all {size}" if self.samples == size else f"{self.samples} of {size} (seed {options.seed})"
        self.description = "; ".join(part for part in (f"{which} {name}", details) if part)
        reader = SampleReader(dataset, spec, name)
        own = type(dataset).__module__.startswith("tsdistill.")
        self.repeatable = own or type(dataset) is TensorDataset
        self._read = _IndexedParts(reader, dataset, name, options.seed, drawn=not fixed or not own)
        self._order = _EpochSampler(self.batch_size, options.share)
        self._loader = loader(
            self._read,
            seed=options.seed,
            workers=options.workers,
            collate=_unchanged,
            sampler=self._order,
            pin=options.pin,
        )

    def _numbers(self, epoch: int) -> Tensor:
        """The numbers of all samples in the order of an epoch."""
        generator = torch.Generator().manual_seed(mixed_seed(self._options.seed, epoch, 1))
        order = torch.randperm(self._used, generator=generator)
        if self._synthetic:
            return order + self._first
        if self.samples == self._size:
            return order
        part = torch.randperm(self._size, generator=torch.Generator().manual_seed(self._options.seed))
        return part[: self._used][order]

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """This process's parts of the batches of an epoch, from number ``start`` on.

        Raises:
            TsdistillError: a sample cannot be read and the data are strict, or none of a batch can be and no
                other can take its place.
        """
        numbers = self._numbers(epoch)
        self._order.set(epoch, start, numbers)
        share = self._options.share
        samples = len(range(share.number, self.batch_size, share.of))
        weight = samples * share.of / self.batch_size
        for number, part in enumerate(self._loader, start=start):
            x, y, index, failures = part
            if failures and self._options.strict:
                raise TsdistillError(failures[0])
            if x is None:
                x, y, index = self._replacement(epoch, number, numbers, failures[0])
            complaint = " ".join(failures[0].split()) if failures else ""
            yield TrainingBatch(x, y, index - self._first, number, weight, len(failures), complaint)

    def _replacement(
        self, epoch: int, batch: int, numbers: Tensor, complaint: str
    ) -> tuple[Any, Any, Tensor]:
        """A sample in place of a part of which none could be read, so that every process has a batch."""
        generator = torch.Generator().manual_seed(mixed_seed(self._options.seed, epoch, batch, 2))
        for place in torch.randint(len(numbers), (_REPLACEMENT_TRIES,), generator=generator).tolist():
            x, y, index, _ = self._read[[(epoch, int(numbers[place]))]]
            if x is not None:
                return x, y, index
        raise TsdistillError(f"nothing of {self.name} can be read: {complaint}")
