"""Batches: cutting, counting and joining them, whatever a sample is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tsdistill.data.targets import target_of
from tsdistill.errors import TsdistillError

LABEL_KEYS = ("labels", "label", "targets", "target")


def split_batch(batch: Any) -> tuple[Any, Any]:
    """A batch ``x``, ``(x, y)`` or a mapping (labels under ``labels`` or ``label``) as ``(x, y or None)``.

    ``x`` is a tensor, a mapping of tensors or, in ``(x, y)``, a sequence of tensors, one for each sample
    (images of different sizes, as detectors take them), which becomes a list. ``y`` is what
    `tsdistill.data.targets.target_of` makes of it.

    Raises:
        TsdistillError: it is none of these.
    """
    if isinstance(batch, Mapping):
        label = next((key for key in LABEL_KEYS if key in batch), None)
        inputs = {key: value for key, value in batch.items() if key != label}
        tensors = {key: _tensor(value) for key, value in inputs.items() if _is_array(value)}
        if not tensors:
            raise TsdistillError(
                "a batch is a mapping without tensors; give x, (x, y) or a mapping of tensors"
            )
        return tensors, None if label is None else target_of(batch[label])
    if isinstance(batch, (tuple, list)):
        if len(batch) == 1:
            return split_batch(batch[0])
        if len(batch) == 2 and (isinstance(batch[0], Mapping) or _is_array(batch[0])):
            x = split_batch(batch[0])[0]
            return x, target_of(batch[1])
        if len(batch) == 2 and _is_samples(batch[0]):
            return [_tensor(sample) for sample in batch[0]], target_of(batch[1])
    elif _is_array(batch):
        return _tensor(batch), None
    raise TsdistillError(f"a batch is x or (x, y) with x a tensor, not {_shape_of(batch)}")


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
    if isinstance(x, list):
        return len(x)
    tensor = next(iter(x.values())) if isinstance(x, Mapping) else x
    if not tensor.ndim:
        raise TsdistillError("a batch is a single number; give tensors of shape (samples, ...)")
    return int(tensor.shape[0])


def cut_batch(x: Any, start: int, stop: int) -> Any:
    """Samples ``start`` to ``stop`` of a batch."""
    if isinstance(x, Mapping):
        return {key: value[start:stop] for key, value in x.items()}
    return x[start:stop]


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
    for tensor in x.values() if isinstance(x, Mapping) else (x,):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = (~torch.isfinite(tensor)).flatten(1).any(1) if tensor.ndim > 1 else ~torch.isfinite(tensor)
            where = int(bad.nonzero()[0, 0])
            what = "NaN" if bool(torch.isnan(tensor[where]).any()) else "infinite values"
            raise TsdistillError(f"sample {first + where} of {name} has {what}; clean or remove it")
