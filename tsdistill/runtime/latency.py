"""How long models take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsdistill.runtime.forward import forward, placement, to_model
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.progress import Progress, tell
from tsdistill.runtime.unchanged import unchanged

WARM_UP = 2
"""Passes of each model that are not timed: the first ones set up kernels and memory."""


@dataclass(frozen=True)
class Timing:
    """Passes of one model.

    Attributes:
        seconds: their median.
        spread: median absolute deviation in seconds: half of the passes lie within that much of the median.
        passes: how many were timed.
    """

    seconds: float
    spread: float
    passes: int


@unchanged
def latency(
    models: Sequence[nn.Module], example_input: Any, *, repeats: int = 15, max_seconds: float = 10.0
) -> list[float]:
    """Median seconds of a forward pass, per model, on the device where it is (see `timings`).

    Args:
        models: the modules, on any devices.
        example_input: a tensor, a tuple of arguments or a mapping of keyword arguments.
        repeats: passes per model after two that are not counted.
        max_seconds: no further round begins after so long.
    """
    measured = timings(models, example_input, repeats=repeats, max_seconds=max_seconds)
    return [timing.seconds for timing in measured]


def timings(
    models: Sequence[nn.Module],
    example_input: Any,
    *,
    repeats: int = 15,
    min_seconds: float = 0.0,
    max_seconds: float = 10.0,
) -> list[Timing]:
    """How long a forward pass takes, per model, on the device where it is.

    The models run in turns, so that other load of the machine affects all of them alike.

    Args:
        models: run in evaluation mode without gradients and left as they were.
        example_input: a tensor, a tuple of arguments or a mapping of keyword arguments.
        repeats: passes per model after two that are not counted.
        min_seconds: rounds go on for so long, also after ``repeats``.
        max_seconds: no further round begins after so long.

    Raises:
        TsdistillError: a forward pass fails.
    """
    times = in_turns(models, example_input, repeats=repeats, min_seconds=min_seconds, max_seconds=max_seconds)
    return [summary(seconds) for seconds in times]


def in_turns(
    models: Sequence[nn.Module],
    example_input: Any,
    *,
    repeats: int = 15,
    min_seconds: float = 0.0,
    max_seconds: float = 10.0,
) -> list[list[float]]:
    """Seconds of each pass that `timings` sums up, per model, in order.

    Args:
        models: the modules, on any devices.
        example_input: the input that each runs on.
        repeats: passes per model after two that are not counted.
        min_seconds: rounds go on for so long, also after ``repeats``.
        max_seconds: no further round begins after so long.
    """
    times: list[list[float]] = [[] for _ in models]
    with evaluation_mode(*models, fast=True), torch.no_grad():
        inputs = [to_model(example_input, model) for model in models]
        for _ in range(WARM_UP):
            for model, x in zip(models, inputs, strict=True):
                _timed(model, x)
        start = time.perf_counter()
        turn = spent = 0.0
        while not turn or (spent < max_seconds and (turn < repeats or spent < min_seconds)):
            for model, x, seconds in zip(models, inputs, times, strict=True):
                seconds.append(_timed(model, x))
            turn, spent = turn + 1, time.perf_counter() - start
    return times


def summary(seconds: Sequence[float]) -> Timing:
    """The median of the seconds of several passes, and their spread."""
    median = statistics.median(seconds)
    return Timing(median, statistics.median(abs(value - median) for value in seconds), len(seconds))


def _timed(model: nn.Module, x: Any) -> float:
    device, _ = placement(model)
    synchronise(device)
    start = time.perf_counter()
    forward(model, x)
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


FORWARD = "one forward pass"
"""Name of the stage in which one forward pass is timed."""


def measure_pass(progress: Progress | None, model: nn.Module, example: Any) -> None:
    """Let a ``progress`` that makes forecasts see how long a forward pass of one sample takes.

    Args:
        progress: without a method ``expect`` nothing runs.
        model: it has run before, so that the pass has nothing to set up.
        example: one input (batch 1).
    """
    listener = getattr(progress, "expect", None)
    if listener is None:
        return
    listener({FORWARD: 1.0})
    tell(progress, FORWARD)
    with evaluation_mode(model), torch.no_grad():
        forward(model, example)
