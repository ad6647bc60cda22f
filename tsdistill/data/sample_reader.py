"""Reading of samples, in this process or in workers: one sample, a batch of them, and the loader of torch."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from tsdistill.data.batches import check_finite
from tsdistill.data.targets import collate_targets
from tsdistill.data.transforms import ImageTransform
from tsdistill.data.unreadable import Failure
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.info import InputSpec
from tsdistill.options.option_fields import written

Batch = tuple[Any, Any]
"""Inputs and targets: labels in a tensor, a structure such as boxes of each sample, or ``None``."""

_PREFETCHED = 4
"""Batches that each worker reads ahead, twice torch's default: a slow file holds up nothing so soon."""


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
        return self._attempt(lambda: self._dataset[index], index)

    def attempt(self, item: Any, place: int) -> tuple[Any, Any] | Failure:
        """`prepare` of the item at a place, or what went wrong."""
        return self._attempt(lambda: item, place)

    def _attempt(self, item: Callable[[], Any], index: int) -> tuple[Any, Any] | Failure:
        try:
            return self.prepare(item())
        except TsdistillError as error:
            return Failure(error)
        except Exception as error:  # a data set may raise anything; a worker's traceback would bury it
            return Failure(f"cannot read sample {index} of {self._name}: {type(error).__name__}: {error}")


def collate(items: Sequence[Any], name: str) -> Batch:
    """The batch of samples that `SampleReader` gave.

    Raises:
        TsdistillError: their shapes differ.
    """
    first = items[0][0]
    try:
        if isinstance(first, Mapping):
            x: Any = {key: torch.stack([torch.as_tensor(item[0][key]) for item in items]) for key in first}
        else:
            x = torch.stack([item[0] for item in items])
    except (RuntimeError, TypeError) as error:
        raise TsdistillError(f"samples of {name} differ in shape: {cause_of(error)}") from error
    return x, collate_targets([item[1] for item in items])


class Part(tuple):
    """A part of a batch, as a worker returns it: ``(x, y, numbers, failures)``."""


def assemble(items: Sequence[Any], numbers: Sequence[int] | None, name: str) -> Part:
    """The part of a batch that samples make up.

    Args:
        items: samples, or `Failure` in place of one; these are left out, and their messages listed.
        numbers: the samples' numbers in the data set; ``None`` for data without numbers.
        name: what messages call the samples.

    Raises:
        TsdistillError: shapes differ, or a value is not finite.
    """
    failures = [str(item) for item in items if isinstance(item, Failure)]
    kept = [place for place, item in enumerate(items) if not isinstance(item, Failure)]
    if not kept:
        return Part((None, None, torch.empty(0, dtype=torch.int64), failures))
    x, y = collate([items[place] for place in kept], name)
    check_finite(x, 0, f"a batch of {name}")
    index = None if numbers is None else torch.tensor([numbers[place] for place in kept])
    return Part((x, y, index, failures))


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


def _worker_init(_: int) -> None:
    """Workers leave Ctrl-C to the process that started them, and compute on one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
