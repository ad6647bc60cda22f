"""The stream of batches that every later stage reads."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any

from torch import Tensor

from tsdistill.data.batches import batch_size as size_of
from tsdistill.data.batches import check_finite
from tsdistill.data.sample_reader import Batch, left_out
from tsdistill.data.sample_source import SampleSource
from tsdistill.data.targets import check_target
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written


class Stream:
    """Batches ``(x, y)``, ``y`` being ``None`` without labels: the same ones in the same order every time.

    ``x`` is ``(batch, *input size)``, or in one of the other forms of `tsdistill.data.batches.split_batch`
    where the caller gave that, on the CPU unless the caller gave it elsewhere. ``y`` is a tensor
    ``(batch, ...)``, or a structure (boxes of each sample) as it was given. Nothing is kept in memory between
    batches.

    Attributes:
        description: where the samples come from, which of them they are and what was done to them.
        synthetic: whether they were made up.
        labelled: whether ``y`` is there.
        samples: how many there are, ``None`` when that is known only at the end.
    """

    def __init__(
        self,
        source: SampleSource,
        *,
        details: str = "",
        synthetic: bool = False,
        labelled: bool | None = None,
        skip: int = 0,
        samples: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self._source, self._details, self._shape = source, details, shape
        self.batch_size, self.seed = batch_size, seed
        self.synthetic = synthetic
        self._part(skip, samples)
        self.labelled = self._peek() if labelled is None else labelled
        self.description = self._describe()

    def _part(self, skip: int, samples: int | None) -> None:
        """Read at most so many samples behind the first ``skip``."""
        self._skip, self._limit = skip, samples
        self.samples = self._number()
        if self.samples is not None and self.samples <= 0:
            source = self._source
            if not skip:
                raise self._nothing()
            raise TsdistillError(
                f"{source.name}: none is left after the first {skip}, there are {source.total}; skip fewer"
            )

    def _number(self) -> int | None:
        available = self._source.available(None if self._limit is None else self._skip + self._limit)
        if available is None:
            return self._limit if self.synthetic else None
        return available - self._skip

    def _peek(self) -> bool:
        first = next(self._source.batches(self._skip, self._limit, 1), None)
        if first is None:
            raise self._nothing()
        return first[1] is not None

    def _describe(self) -> str:
        total, seed = self._source.total, f"seed {self.seed}"
        if self._source.random:
            which = f"a random part, {seed}"
        else:
            which = f"after {self._skip}" if self._skip else "the first"
        number = "all" if self.samples is None and self._limit is None else f"{self.samples or self._limit}"
        if self.synthetic:
            text = f"{number} {self._source.name} ({seed})"
        elif total is not None and self.samples == total:
            text = f"all {total} {self._source.name}"
        elif total is not None:
            text = f"{number} of {total} {self._source.name} ({which})"
        else:
            text = f"{'at most ' if self.samples is None and self._limit else ''}{number} {self._source.name}"
        labels = "with labels" if self.labelled else "no labels"
        return "; ".join(part for part in (text, labels if not self.synthetic else "", self._details) if part)

    def __iter__(self) -> Iterator[Batch]:
        position = 0
        for x, y in self._source.batches(self._skip, self._limit, self.batch_size):
            self._check(x, y, position)
            position += size_of(x)
            yield x, y
        if not position:
            raise self._nothing()

    def _nothing(self) -> TsdistillError:
        """Why there is not a single sample."""
        wrong = self.unread
        if wrong:
            return TsdistillError(f"nothing of {self._source.name} can be read: {wrong[0]}")
        return TsdistillError(f"{self._source.name} yields no samples; give at least one batch")

    @property
    def unread(self) -> list[str]:
        """What was wrong with each sample of this stream that could not be read so far and was left out."""
        stop = None if self._limit is None else self._skip + self._limit
        return self._source.unreadable.between(self._skip, stop)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user about samples that were left out so far."""
        note = left_out(self.unread, self.samples)
        return (note,) if note else ()

    def _check(self, x: Any, y: Any, position: int) -> None:
        one = isinstance(x, Tensor)
        if one and self._shape is not None and tuple(x.shape[1:]) != self._shape:
            raise TsdistillError(
                f"{self._source.name}: samples have shape {tuple(x.shape[1:])} but the model reads"
                f" {self._shape}; give {written('input_size')} or reshape the samples"
            )
        check_target(y, size_of(x), self._source.name)
        check_finite(x, self._skip + position, self._source.name)

    def held_out(self, samples: int | None = None) -> Stream | None:
        """A second stream over samples that are not in this one, at most ``samples`` of them (as many as this
        one has).

        Returns:
            ``None`` when this stream takes everything there is.
        """
        wanted = samples if samples is not None else (self.samples or self._limit)
        used = self._limit if self.samples is None else self.samples
        if used is None:
            return None
        skip = self._skip + used
        total = self._source.total
        if total is not None and skip >= total:
            return None
        if total is None and not self.synthetic and next(self._source.batches(skip, 1, 1), None) is None:
            return None
        other = copy(self)
        other._part(skip, wanted)
        other.description = other._describe()
        return other
