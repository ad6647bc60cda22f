"""Targets: class numbers and values as one tensor, boxes and whatever else a task has as they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tsdistill.errors import TsdistillError

_UNLABELLED = -1
"""The class number of samples without a label, in the test splits of the Hugging Face hub and in folders."""


def target_of(target: Any) -> Any:
    """The target of a batch: a tensor where it can be one, else the structure that was given.

    A structure is a sequence or mapping that holds tensors, arrays or mappings: a dictionary of boxes for
    each sample, a dictionary of tensors with the batch on their first dimension, and the like.

    Raises:
        TsdistillError: it is neither.
    """
    if target is None or isinstance(target, (Tensor, Mapping)):
        return target
    if isinstance(target, (tuple, list)) and any(_structured(item) for item in target):
        return target
    try:
        return torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        what = type(target).__name__
        of = f" of {len(target)}" if isinstance(target, (tuple, list)) else ""
        raise TsdistillError(f"a batch holds a {what}{of} where a tensor is needed") from error


def collate_targets(targets: Sequence[Any]) -> Any:
    """The targets of single samples as that of their batch: a tensor of class numbers or of values; a list
    where they are mappings, sequences or differ in shape; ``None`` where there are none, or each sample has
    the class number that data sets give samples without a label (-1).
    """
    if any(target is None for target in targets):
        return None
    if isinstance(targets[0], (Mapping, tuple, list)):
        return list(targets)
    if not _numeric(targets[0]):
        return None
    tensors = [torch.as_tensor(target) for target in targets]
    if len({tensor.shape for tensor in tensors}) > 1:
        return list(targets)
    y = torch.stack(tensors)
    if y.is_floating_point():
        return y
    return None if y.ndim == 1 and bool((y == _UNLABELLED).all()) else y.long()


def cut_target(target: Any, start: int, stop: int, samples: int) -> Any:
    """The target of samples ``start`` to ``stop`` of a batch.

    A sequence with one entry for each sample is cut; of any other sequence, and of mappings, the entries are.

    Args:
        target: the target of the batch.
        start: the first sample, counted from 0.
        stop: one more than the last sample.
        samples: the number of samples in the batch.
    """
    if isinstance(target, (Tensor, np.ndarray)):
        return target[start:stop] if target.ndim else target
    if isinstance(target, Mapping):
        return {key: cut_target(value, start, stop, samples) for key, value in target.items()}
    if isinstance(target, (tuple, list)):
        if len(target) == samples:
            return target[start:stop]
        return [cut_target(value, start, stop, samples) for value in target]
    return target


def check_target(target: Any, samples: int, name: str) -> None:
    """See that there is a target for each of ``samples``.

    Args:
        target: of a batch; ``None`` passes.
        samples: how many the batch has.
        name: what the data are called, for the message.

    Raises:
        TsdistillError: a tensor of another length, or a sequence with neither an entry per sample nor tensors
            of that length.
    """
    if isinstance(target, Tensor):
        if not target.ndim or target.shape[0] != samples:
            raise TsdistillError(
                f"{name}: a batch of {samples} samples has labels of shape {tuple(target.shape)}"
            )
    elif isinstance(target, (tuple, list)) and len(target) != samples and not _batched(target, samples):
        raise TsdistillError(f"{name}: a batch of {samples} samples has {len(target)} targets; give one each")


def _structured(value: Any) -> bool:
    """Whether it is more than a number or a nest of numbers."""
    if isinstance(value, (tuple, list)):
        return any(_structured(item) for item in value)
    return isinstance(value, Mapping) or (isinstance(value, (Tensor, np.ndarray)) and value.ndim > 0)


def _numeric(value: Any) -> bool:
    return isinstance(value, (int, float, Tensor)) or hasattr(value, "__array__")


def _batched(target: Sequence[Any], samples: int) -> bool:
    """Whether every entry is a tensor over the whole batch."""
    return all(isinstance(v, (Tensor, np.ndarray)) and v.ndim and v.shape[0] == samples for v in target)


def labels_of(dataset: Dataset) -> Any:
    """The labels of all samples of a data set that stores them apart from the samples, else ``None``."""
    for name in ("labels", "targets", "y"):
        labels = getattr(dataset, name, None)
        if labels is not None and not callable(labels) and hasattr(labels, "__len__"):
            return labels
    numbers, paths = getattr(dataset, "classes", None), getattr(dataset, "paths", None)
    if numbers and paths is not None:
        known = {name: number for number, name in enumerate(numbers)}
        return [known.get(path.parent.name, -1) for path in paths]
    return None
