"""How long models take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tsdistill.evaluation.forward import at_rest, forward, placement, to_model

_WARM_UP = 2


def latency(
    models: Sequence[nn.Module], example_input: Any, *, repeats: int = 15, max_seconds: float = 10.0
) -> list[float]:
    """Median seconds of a forward pass, per model, on the device where it is.

    The models take turns, so that what else the machine does meets all of them alike.

    Args:
        models: run in evaluation mode without gradients and left as they were.
        example_input: a tensor, a tuple of arguments or a mapping of keyword arguments.
        repeats: passes per model after two that are not counted.
        max_seconds: no further round begins after so long.

    Raises:
        TsdistillError: a forward pass fails.
    """
    times: list[list[float]] = [[] for _ in models]
    with at_rest(*models, fast=True), torch.no_grad():
        inputs = [to_model(example_input, model) for model in models]
        for _ in range(_WARM_UP):
            for model, x in zip(models, inputs, strict=True):
                _timed(model, x)
        start = time.perf_counter()
        for turn in range(max(1, repeats)):
            if turn and time.perf_counter() - start > max_seconds:
                break
            for model, x, seconds in zip(models, inputs, times, strict=True):
                seconds.append(_timed(model, x))
    return [statistics.median(seconds) for seconds in times]


def _timed(model: nn.Module, x: Any) -> float:
    device, _ = placement(model)
    _synchronise(device)
    start = time.perf_counter()
    forward(model, x)
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
