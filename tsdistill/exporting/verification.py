"""Comparison of an exported model with its module, on random inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.options.option_fields import written
from tsdistill.runtime.modes import first_line
from tsdistill.runtime.nests import tensors

OTHER_BATCHES = (1, 3)
"""Batch sizes that a dynamic batch is checked on besides the exported one (2): one smaller, which programs
may treat as a constant, and one larger.
"""

_INPUTS = 3
"""Random inputs of a comparison: one for each of the other batches, and one of the exported batch."""

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Largest difference by type, as a share of the tensor's largest value. Engines add in another order: about a
thousand rounding errors of single precision (6e-8), and more of double, whose functions engines approximate.
"""

_HALF_TOLERANCE = 0.03
"""The same for half precision, whose rounding error is 4e-3 in bfloat16: a few of them."""


@dataclass(frozen=True)
class Check:
    """What a comparison with the module found.

    Attributes:
        by: what ran the exported model, with its version.
        inputs: on how many random inputs.
        batches: batch sizes of those inputs.
        difference: the largest absolute difference of two values.
        largest: the largest absolute value of the module's outputs.
    """

    by: str
    inputs: int
    batches: tuple[int, ...]
    difference: float
    largest: float


def check(
    model: nn.Module,
    run: Callable[..., Any],
    example: Example,
    *,
    dynamic: bool,
    by: str,
    exact: bool = False,
) -> Check:
    """Compare an exported model with its module on random inputs.

    Values may differ by 1e-4 of the largest value of their tensor in single precision (1e-9 in double, 3e-2
    in half precision), whole numbers and, with ``exact``, all values not at all.

    Args:
        model: the module.
        run: runs the exported model on the arguments of the forward.
        example: the input that was exported with.
        dynamic: whether other batch sizes are checked as well.
        by: what runs the exported model, with its version.
        exact: whether every value must be the same.

    Raises:
        TsdistillError: a difference beyond that, other shapes, or the exported model does not run.
    """
    batches = [example.batch] * _INPUTS
    if dynamic:
        batches[: len(OTHER_BATCHES)] = OTHER_BATCHES
    difference = largest = 0.0
    for seed, batch in enumerate(batches):
        drawn = example.resized(batch).drawn(torch.Generator().manual_seed(seed))
        other = dynamic and batch != example.batch
        try:
            with torch.no_grad():
                expected = tensors(model(*drawn.args, **drawn.kwargs))
        except Exception as error:
            raise TsdistillError(
                f"the model's forward fails on a batch of {batch}: {first_line(error)}{_batch_hint(other)}"
            ) from error
        try:
            with torch.no_grad():
                outputs = tensors(run(*drawn.args, **drawn.kwargs))
        except Exception as error:
            raise TsdistillError(
                f"the exported model fails on a batch of {batch} in {by}: {first_line(error)}"
                f"{_batch_hint(other)}"
            ) from error
        if [t.shape for t in outputs] != [t.shape for t in expected]:
            raise TsdistillError(
                f"the exported model gives {_shapes(outputs)} in {by} on a batch of {batch}, the module "
                f"{_shapes(expected)}{_batch_hint(other)}"
            )
        for one, two in zip(outputs, expected, strict=True):
            off, size, tolerance = _compare(one, two)
            difference, largest = max(difference, off), max(largest, size)
            if not off <= (0 if exact else tolerance * size):
                raise TsdistillError(
                    f"the exported model differs from the module in {by} on a batch of {batch}: by {off:.3g} "
                    f"where values go up to {size:.3g}{_batch_hint(other)}"
                )
    return Check(by, len(batches), tuple(dict.fromkeys(batches)), difference, largest)


def _compare(output: torch.Tensor, expected: torch.Tensor) -> tuple[float, float, float]:
    """The largest difference, the largest expected value, and the tolerated share of it."""
    if not expected.numel():
        return 0.0, 0.0, 0.0
    tolerance = 0.0
    if expected.is_floating_point() or expected.is_complex():
        tolerance = _TOLERANCE.get(expected.dtype.to_real(), _HALF_TOLERANCE)
    wide: Any = torch.complex128 if expected.is_complex() else torch.float64
    one, other = output.to(wide), expected.to(wide)
    same = (one == other) | (one.isnan() & other.isnan())
    off = torch.where(same, 0, one - other).abs()
    finite = torch.where(other.isfinite(), other, 0)
    worst = off.max().item()
    return (float("inf") if worst != worst else worst), finite.abs().max().item(), tolerance


def _shapes(tensors: Sequence[torch.Tensor]) -> str:
    return " ".join(str(list(t.shape)) for t in tensors) or "nothing"


def _batch_hint(other_batch: bool) -> str:
    if other_batch:
        way_out = written("dynamic_batch", False)
        return f"; its forward is bound to one batch size: export with {way_out}"
    return ""
