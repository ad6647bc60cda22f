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
from tsdistill.data.sample_reader import Part, SampleReader, loader, unchanged
from tsdistill.data.targets import labels_of
from tsdistill.data.training_batch import LoaderOptions, Share, TrainingBatch, TrainingSamples, finite_part
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written
from tsdistill.runtime.seeds import mixed_seed, seeded_draws

_REPLACEMENT_TRIES = 64
"""Samples that are tried in place of a part of a batch of which none can be read. Where half of a data set is
unreadable, 64 failures in a row have probability 2**-64; a data set of which nothing can be read fails soon.
"""


class _IndexedParts(Dataset):
    """Reads parts of batches, ``[(epoch, sample), ...]`` in one call, with one seed for each sample."""

    def __init__(self, samples: TrainingSamples, seed: int, drawn: bool) -> None:
        self._reader = SampleReader(samples.dataset, samples.spec, samples.name)
        self._dataset, self._name, self._seed, self._drawn = samples.dataset, samples.name, seed, drawn
        self._whole = isinstance(samples.dataset, ArraySamples)

    def __getitem__(self, wanted: Sequence[tuple[int, int]]) -> Part:
        numbers = [number for _, number in wanted]
        if self._whole:
            x, y = self._dataset.take(numbers)
            check_finite(x, 0, f"a batch of {self._name}")
            return Part(x, y, torch.tensor(numbers), [])
        return finite_part([self._read(*each) for each in wanted], numbers, self._name)

    def _read(self, epoch: int, number: int) -> Any:
        if not self._drawn:
            return self._reader[number]
        with seeded_draws(self._seed, epoch, number):
            return self._reader[number]


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
        samples: the data set and what is known of it.
        options: how the data are read.

    Raises:
        TsdistillError: there are no samples, or fewer in a batch than there are processes.
    """

    def __init__(self, samples: TrainingSamples, options: LoaderOptions) -> None:
        dataset, name, fixed = samples.dataset, samples.name, samples.fixed
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
        self.description = "; ".join(part for part in (f"{which} {name}", samples.details) if part)
        own = type(dataset).__module__.startswith("tsdistill.")
        self.repeatable = own or type(dataset) is TensorDataset
        self._read = _IndexedParts(samples, options.seed, drawn=not fixed or not own)
        self._order = _EpochSampler(self.batch_size, options.share)
        self._loader = loader(
            self._read,
            seed=options.seed,
            workers=options.workers,
            collate=unchanged,
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
            failures, complaint = part.failures, self._options.refuse(part.failures)
            if part.x is None:
                part = self._replacement(epoch, number, numbers, failures[0][1])
            x, y, index, _ = part
            yield TrainingBatch(x, y, index - self._first, number, weight, len(failures), complaint)

    def _replacement(self, epoch: int, batch: int, numbers: Tensor, complaint: str) -> Part:
        """A sample in place of a part of which none could be read, so that every process has a batch."""
        generator = torch.Generator().manual_seed(mixed_seed(self._options.seed, epoch, batch, 2))
        for place in torch.randint(len(numbers), (_REPLACEMENT_TRIES,), generator=generator).tolist():
            part = self._read[[(epoch, int(numbers[place]))]]
            if part.x is not None:
                return part
        raise TsdistillError(f"nothing of {self.name} can be read: {complaint}")
