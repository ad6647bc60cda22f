"""Gradient flow dw/dt = −∂J/∂w of many students at once, with separate step sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction as Of

import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.gaussian.expected_loss import check_shapes, velocity

_STAGES = (
    (),
    (Of(1, 5),),
    (Of(3, 40), Of(9, 40)),
    (Of(44, 45), Of(-56, 15), Of(32, 9)),
    (Of(19372, 6561), Of(-25360, 2187), Of(64448, 6561), Of(-212, 729)),
    (Of(9017, 3168), Of(-355, 33), Of(46732, 5247), Of(49, 176), Of(-5103, 18656)),
    (Of(35, 384), Of(0), Of(500, 1113), Of(125, 192), Of(-2187, 6784), Of(11, 84)),
)
_FOURTH = (
    Of(5179, 57600),
    Of(0),
    Of(7571, 16695),
    Of(393, 640),
    Of(-92097, 339200),
    Of(187, 2100),
    Of(1, 40),
)
"""Weights of earlier slopes in each stage of the method of Dormand and Prince (1980), and the weights of its
fourth-order solution."""
_STEPS = tuple(tuple(map(float, stage)) for stage in _STAGES)
_ERROR = tuple(float(a - b) for a, b in zip((*_STAGES[-1], Of(0)), _FOURTH, strict=True))
_SMALLEST = 1e-9
"""Shortest step, in units of time: it is taken whatever its error."""


def gradient_flow(
    students: Tensor,
    teachers: Tensor,
    times: Sequence[float],
    *,
    linear: bool = False,
    tolerance: float = 1e-7,
) -> Tensor:
    """The students at each time of the population gradient flow.

    Source: arXiv 1703.00560 (its dynamics, dw/dt = −E ∂J/∂w).

    Args:
        students: start ``[S, n, d]``: S sets of n nodes.
        teachers: ``[m, d]``, the same for all.
        times: increasing, from 0.
        linear: follow the linear part of the gradient only.
        tolerance: error of a step relative to the largest weight of the set.

    Returns:
        ``[len(times), S, n, d]``.

    Raises:
        TsdistillError: input dimensions that differ, or times that do not increase.
    """
    check_shapes(students, teachers)

    def moved(weights: Tensor) -> Tensor:
        parts = velocity(weights, teachers)
        return parts.linear if linear else parts.total

    return integrate(moved, students, times, tolerance=tolerance)


def integrate(
    moved: Callable[[Tensor], Tensor], start: Tensor, times: Sequence[float], *, tolerance: float = 1e-7
) -> Tensor:
    """Solve dy/dt = moved(y) by the fifth-order method of Dormand and Prince (1980).

    Args:
        moved: velocity of states ``[s, ...]``, for any number s of them.
        start: states ``[S, ...]`` at time 0.
        times: increasing, from 0.
        tolerance: error of a step relative to the largest coordinate of the state (at least 1e-3).

    Returns:
        ``[len(times), S, ...]``.

    Raises:
        TsdistillError: times do not increase from 0.
    """
    if any(low > high for low, high in zip((0.0, *times), times, strict=False)):
        raise TsdistillError("times of a flow start at 0 and increase; sort them")
    state, now = start.clone(), start.new_zeros(len(start))
    step = start.new_full((len(start),), 1e-3)
    states = []
    for target in times:
        while len(left := (now < target).nonzero()[:, 0]):
            size = torch.minimum(step[left], target - now[left])
            new, error = _stepped(moved, state[left], size)
            scale = tolerance * _largest(new).clamp_min(1e-3)
            ratio = _largest(error) / scale
            good = (ratio <= 1) | (size <= _SMALLEST)
            state[left[good]] = new[good]
            last = size >= target - now[left]
            now[left[good]] = torch.where(last[good], target, now[left[good]] + size[good])
            grown = (0.9 * ratio.clamp_min(1e-10) ** -0.2).clamp(0.2, 5) * size
            step[left] = torch.where(good & last, torch.maximum(grown, step[left]), grown).clamp_min(
                _SMALLEST
            )
        states.append(state.clone())
    return torch.stack(states)


def _stepped(moved: Callable[[Tensor], Tensor], state: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    size = size.view(-1, *[1] * (state.dim() - 1))
    slopes: list[Tensor] = []
    for weights in _STEPS:
        new = state
        for weight, slope in zip(weights, slopes, strict=True):
            if weight:
                new = new + weight * size * slope
        slopes.append(moved(new))
    error = sum(weight * slope for weight, slope in zip(_ERROR, slopes, strict=True)) * size
    return new, error


def _largest(state: Tensor) -> Tensor:
    return state.abs().flatten(1).amax(1)
