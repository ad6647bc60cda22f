"""Batches: cutting, counting and joining them, whatever a sample is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tsdistill.data.targets import target_of
from tsdistill.errors import TsdistillError
from tsdistill.runtime.finite import non_finite
from tsdistill.runtime.nests import as_tensors, count, holds_tensors, is_graph, is_record, tensors

LABEL_KEYS = ("labels", "label", "targets", "target")


def split_batch(batch: Any, arguments: int = 1) -> tuple[Any, Any]:
    """A batch as ``(x, y or None)``.

    ``x`` is a tensor; a mapping of keyword arguments (labels under ``labels`` or ``label``); a data class or
    a graph (its ``y``, where it has one for each graph), as one argument; a tuple of positional arguments,
    which may be nests of tensors; or a list of samples (images of different sizes, as detectors take them).

    A tuple or list of two is ``(x, y)``, one of a single entry ``x`` (a tuple of one mapping or sequence:
    that as one argument). Where the model takes more ``arguments``, one of so many is these, and one with an
    entry more has ``y`` behind them. A sequence of tensors as ``x`` in ``(x, y)`` holds samples where there
    are as many as targets; where each tensor has as many rows as there are targets, a tuple holds arguments,
    and a list is one argument (feature maps). ``y`` is what `tsdistill.data.targets.target_of` makes of it.

    Args:
        batch: a batch in one of these forms.
        arguments: how many positional arguments the model takes at least.

    Raises:
        TsdistillError: it is none of these.
    """
    if isinstance(batch, Mapping):
        label = next((key for key in LABEL_KEYS if key in batch), None)
        inputs = {key: as_tensors(value) for key, value in batch.items() if key != label}
        inputs = {key: value for key, value in inputs.items() if holds_tensors(value)}
        if not inputs:
            raise TsdistillError(
                "a batch is a mapping without tensors; give x, (x, y) or a mapping of tensors"
            )
        return inputs, None if label is None else target_of(batch[label])
    if is_graph(batch):
        y = getattr(batch, "y", None)
        return batch, y if isinstance(y, torch.Tensor) and y.ndim and len(y) == count(batch) else None
    if is_record(batch):
        return batch, None
    if isinstance(batch, (tuple, list)) and len(batch) in (1, 2, arguments, arguments + 1):
        return _split_sequence(batch, arguments)
    if _is_array(batch):
        return _tensor(batch), None
    raise TsdistillError(
        "a batch is x or (x, y) with x a tensor, a mapping, a data class, a graph or a tuple of arguments, "
        f"not {_shape_of(batch)}"
    )


def _split_sequence(batch: Sequence[Any], arguments: int) -> tuple[Any, Any]:
    """`split_batch` for a tuple or list."""
    first = batch[0]
    nested = isinstance(first, (tuple, list)) and holds_tensors(first)
    if arguments > 1 and len(batch) == 2 and nested and len(first) == arguments:
        return tuple(as_tensors(item) for item in first), target_of(batch[1])
    if arguments > 1 and len(batch) >= arguments and all(map(holds_tensors, batch[:arguments])):
        y = target_of(batch[arguments]) if len(batch) > arguments else None
        return tuple(as_tensors(item) for item in batch[:arguments]), y
    if len(batch) == 1 and (nested or (isinstance(first, Mapping) and isinstance(batch, tuple))):
        return (as_tensors(first),), None
    if len(batch) == 1:
        return split_batch(first)
    if len(batch) == 2 and (_is_array(first) or isinstance(first, Mapping)):
        return split_batch(first)[0], target_of(batch[1])
    if len(batch) == 2 and (is_graph(first) or is_record(first)):
        return first, target_of(batch[1])
    if len(batch) == 2 and nested:
        return _nested(first, target_of(batch[1]))
    raise TsdistillError(f"a batch is x or (x, y) with x a tensor, not {_shape_of(batch)}")


def _nested(sequence: Sequence[Any], y: Any) -> tuple[Any, Any]:
    """``x`` of ``(x, y)`` that is a sequence itself: samples, arguments or one argument."""
    targets = len(y) if isinstance(y, (torch.Tensor, tuple, list)) and not _is_number(y) else None
    values = as_tensors(sequence)
    rows = {t.shape[0] if t.ndim else 0 for t in tensors(values)}
    if targets is not None and targets != len(sequence) and rows == {targets}:
        return (tuple(values) if isinstance(values, tuple) else (values,)), y
    if _is_samples(sequence):
        return list(values), y
    return (tuple(values) if isinstance(values, tuple) else (values,)), y


def _is_number(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and not value.ndim


def _is_array(value: Any) -> bool:
    return isinstance(value, (torch.Tensor, np.ndarray))


def _is_samples(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(_is_array(v) and v.ndim for v in value)


def _tensor(value: Any) -> torch.Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TsdistillError(f"a batch holds {_shape_of(value)} where a tensor is needed") from error


def _shape_of(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def batch_size(x: Any) -> int:
    """How many samples a batch has.

    Raises:
        TsdistillError: it has no batch dimension.
    """
    samples = count(x)
    first = next(iter(tensors(x)), None)
    if not samples and (first is None or not first.ndim):
        raise TsdistillError("a batch is a single number; give tensors of shape (samples, ...)")
    return samples


def check_finite(x: Any, first: int, name: str) -> None:
    """See that no value is NaN or infinite.

    Args:
        x: a batch.
        first: position of its first sample, for the message.
        name: what the data are called.

    Raises:
        TsdistillError: one is; the message says in which sample.
    """
    if isinstance(x, list):
        for position, sample in enumerate(x):
            check_finite(sample[None], first + position, name)
        return
    for tensor in tensors(x):
        if non_finite(tensor) is not None:
            bad = (~torch.isfinite(tensor)).flatten(1).any(1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
            where = int(bad.nonzero()[0, 0]) if bad.ndim else 0
            raise TsdistillError(
                f"sample {first + where} of {name} has {non_finite(tensor[where])}; clean or remove it"
            )
