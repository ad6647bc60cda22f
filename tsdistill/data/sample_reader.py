"""Reading of samples, in this process or in workers: one sample, a batch of them, and the loader of torch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from tsdistill.data.targets import collate_targets
from tsdistill.data.transforms import ImageTransform
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec
from tsdistill.options.option_fields import written

Batch = tuple[Any, Any]
"""Inputs and targets: labels in a tensor, a structure such as boxes of each sample, or ``None``."""

_PREFETCHED = 4
"""Batches that each worker reads ahead, twice torch's default: a slow file holds up nothing so soon."""


class Failure(str):
    """The message of an error, carried from a worker process as a value."""


class SampleReader(Dataset):
    """Samples of a data set as ``(tensor, label or None)``, or what went wrong."""

    def __init__(self, dataset: Any, spec: InputSpec | None, name: str) -> None:
        self._dataset, self._spec, self._name = dataset, spec, name
        self._transform: ImageTransform | None = None

    def prepare(self, item: Any) -> tuple[Any, Any]:
        """What the model reads of an item of the data set, and its label."""
        x, y = item[:2] if isinstance(item, (tuple, list)) and len(item) > 1 else (item, None)
        if isinstance(x, (tuple, list)) and len(x) == 1:
            x = x[0]
        if not isinstance(x, (torch.Tensor, Mapping)):
            if self._spec is None:
                raise TsdistillError(f"how inputs look is not known; say with {written('input_size')}")
            if self._transform is None:
                self._transform = ImageTransform(self._spec)
            x = self._transform(x)
        return x, y

    def __getitem__(self, index: int) -> tuple[Any, Any] | Failure:
        return self.attempt(f"sample {index}", self._dataset.__getitem__, index)

    def attempt(self, which: str, get: Callable[[Any], Any], place: Any) -> tuple[Any, Any] | Failure:
        """`prepare` of the item ``get(place)``, or what went wrong; messages call it ``which``."""
        try:
            return self.prepare(get(place))
        except TsdistillError as error:
            return Failure(error)
        except Exception as error:  # a data set may raise anything; a worker's traceback would bury it
            return Failure(f"cannot read {which} of {self._name}: {type(error).__name__}: {error}")


class Part(NamedTuple):
    """A part of a batch.

    Attributes:
        x: what the model reads; ``None`` where no sample could be read.
        y: the labels, or ``None``.
        numbers: of the samples in the data set, int64 ``(n,)``; ``None`` for data without numbers.
        failures: messages about the samples that could not be read and are left out, each with its place.
    """

    x: Any
    y: Any
    numbers: torch.Tensor | None
    failures: list[tuple[int, str]]


def assemble(items: Sequence[Any], numbers: Sequence[int] | None, name: str) -> Part:
    """The part of a batch that samples make up.

    Args:
        items: what `SampleReader` gave: samples, or `Failure` in place of one.
        numbers: the samples' numbers in the data set; ``None`` for data without numbers.
        name: what messages call the samples.

    Raises:
        TsdistillError: shapes differ.
    """
    failures = [(place, str(item)) for place, item in enumerate(items) if isinstance(item, Failure)]
    kept = [place for place, item in enumerate(items) if not isinstance(item, Failure)]
    if not kept:
        return Part(None, None, torch.empty(0, dtype=torch.int64), failures)
    samples = [items[place] for place in kept]
    first = samples[0][0]
    try:
        if isinstance(first, Mapping):
            x: Any = {key: torch.stack([torch.as_tensor(each[key]) for each, _ in samples]) for key in first}
        else:
            x = torch.stack([each for each, _ in samples])
    except (RuntimeError, TypeError) as error:
        raise TsdistillError(f"samples of {name} differ in shape: {cause_of(error)}") from error
    index = None if numbers is None else torch.tensor([numbers[place] for place in kept])
    return Part(x, collate_targets([y for _, y in samples]), index, failures)


def loader(
    samples: Dataset,
    *,
    seed: int,
    workers: int,
    collate: Callable[[Any], Any],
    batch_size: int | None = None,
    sampler: Iterable[Any] | None = None,
    pin: bool = False,
    drop_last: bool = False,
) -> DataLoader:
    """The loader of torch behind every data set, of evaluation and of training.

    Args:
        samples: what is read.
        seed: of the workers' own generators.
        workers: processes that read; 0 for this one.
        collate: makes a batch of the samples; of what one index gives where there is no ``batch_size``.
        batch_size: samples in a batch; ``None`` where an index stands for a whole batch.
        sampler: the indices, in order; ``None`` for a stream.
        pin: put batches into page-locked memory.
        drop_last: leave out a last batch that is shorter.
    """
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        prefetch_factor=_PREFETCHED if workers else None,
        persistent_workers=bool(workers) and batch_size is None,
        collate_fn=collate,
        worker_init_fn=_worker_init,
        generator=torch.Generator().manual_seed(seed),
        pin_memory=pin,
        drop_last=drop_last,
    )


def unchanged(value: Any) -> Any:
    """``value``; workers can be given no lambda."""
    return value


def length_of(thing: Any) -> int | None:
    """``len(thing)``, ``None`` where it has no length."""
    try:
        return len(thing)
    except (TypeError, NotImplementedError, AttributeError, ValueError):
        return None


def name_of(dataset: Any) -> str:
    """What messages call the samples of a data set."""
    return getattr(dataset, "description", None) or f"samples of {type(dataset).__name__}"


def _worker_init(_: int) -> None:
    """Workers leave Ctrl-C to the process that started them, and compute on one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


NAMED = 3
"""So many are named in a note: enough to see what they have in common, few enough for a line or two."""


class Unreadable:
    """The samples of a source that could not be read so far.

    Args:
        strict: the first of them is an error.
    """

    def __init__(self, strict: bool = False) -> None:
        self._strict = strict
        self._complaints: dict[int, str] = {}

    def add(self, part: Part, first: int) -> None:
        """Note the failures of a part whose first sample is at position ``first`` of the source's order.

        Raises:
            TsdistillError: one could not be read and that is an error.
        """
        for place, message in part.failures:
            self._complaints[first + place] = " ".join(message.split())
            if self._strict:
                raise TsdistillError(self._complaints[first + place])

    def between(self, first: int, stop: int | None) -> list[str]:
        """What was wrong with the samples from position ``first`` to ``stop``, in their order."""
        return [
            complaint
            for place, complaint in sorted(self._complaints.items())
            if place >= first and (stop is None or place < stop)
        ]


def left_out(complaints: Sequence[str], samples: int | None) -> str:
    """A note on samples that were left out; empty where there are none.

    Args:
        complaints: what was wrong with each.
        samples: how many there are with them, ``None`` when that is not known.
    """
    if not complaints:
        return ""
    of = "" if samples is None else f" of {samples}"
    more = f"; and {len(complaints) - NAMED} more" if len(complaints) > NAMED else ""
    return (
        f"{len(complaints)}{of} samples could not be read and are left out (strict: an error): "
        f"{'; '.join(complaints[:NAMED])}{more}"
    )
