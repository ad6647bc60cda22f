"""An exported model beside the module it was made of, on random inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.runtime.modes import first_line, tensors_in

OTHER_BATCHES = (1, 3)
_SEEDS = 3
_SHARE = {torch.float64: 1e-9, torch.float32: 1e-4}
_HALF = 0.03

Runner = Callable[[Example], Sequence[torch.Tensor]]
"""Runs an exported model; gives the tensors of its output in order."""


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
    model: nn.Module, run: Runner, example: Example, *, dynamic: bool, by: str, exact: bool = False
) -> Check:
    """Compare ``run`` with ``model`` on random inputs; of other batch sizes as well when ``dynamic``.

    Values may differ by 1e-4 of the largest value of their tensor in single precision (1e-9 in double, 3e-2
    in half precision), whole numbers and, with ``exact``, all values not at all.

    Raises:
        TsdistillError: a difference beyond that, other shapes, or the exported model does not run.
    """
    batches = [example.batch] * _SEEDS
    if dynamic:
        batches[: len(OTHER_BATCHES)] = OTHER_BATCHES
    difference = largest = 0.0
    for seed, batch in enumerate(batches):
        drawn = example.resized(batch).drawn(torch.Generator().manual_seed(seed))
        other = dynamic and batch != example.batch
        try:
            with torch.no_grad():
                expected = tensors_in(model(*drawn.args, **drawn.kwargs))
        except Exception as error:
            raise TsdistillError(
                f"the model's forward fails on a batch of {batch}: {first_line(error)}{_way_out(other)}"
            ) from error
        try:
            with torch.no_grad():
                given = run(drawn)
        except Exception as error:
            raise TsdistillError(
                f"the exported model fails on a batch of {batch} in {by}: {first_line(error)}"
                f"{_way_out(other)}"
            ) from error
        if [t.shape for t in given] != [t.shape for t in expected]:
            raise TsdistillError(
                f"the exported model gives {_shapes(given)} in {by} on a batch of {batch}, the module "
                f"{_shapes(expected)}{_way_out(other)}"
            )
        for one, two in zip(given, expected, strict=True):
            off, size, share = _compare(one, two)
            difference, largest = max(difference, off), max(largest, size)
            if not off <= (0 if exact else share * size):
                raise TsdistillError(
                    f"the exported model differs from the module in {by} on a batch of {batch}: by {off:.3g} "
                    f"where values go up to {size:.3g}{_way_out(other)}"
                )
    return Check(by, len(batches), tuple(dict.fromkeys(batches)), difference, largest)


def _compare(given: torch.Tensor, expected: torch.Tensor) -> tuple[float, float, float]:
    """The largest difference, the largest expected value, and which share of it may differ."""
    if not expected.numel():
        return 0.0, 0.0, 0.0
    share = 0.0
    if expected.is_floating_point() or expected.is_complex():
        share = _SHARE.get(expected.dtype.to_real(), _HALF)
    wide: Any = torch.complex128 if expected.is_complex() else torch.float64
    one, other = given.to(wide), expected.to(wide)
    same = (one == other) | (one.isnan() & other.isnan())
    off = torch.where(same, 0, one - other).abs()
    finite = torch.where(other.isfinite(), other, 0)
    worst = off.max().item()
    return (float("inf") if worst != worst else worst), finite.abs().max().item(), share


def _shapes(tensors: Sequence[torch.Tensor]) -> str:
    return " ".join(str(list(t.shape)) for t in tensors) or "nothing"


def _way_out(other_batch: bool) -> str:
    if other_batch:
        return "; its forward is bound to one batch size: export with --static-batch (dynamic_batch=False)"
    return ""
