"""One layer's fan-in fitted by ridge least squares to what its nodes are in the dense model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tsdistill.pruning.compensate import ReadingWeight
from tsdistill.pruning.realignment.ridge_regression import ridge_regression
from tsdistill.runtime.calls import Call
from tsdistill.statistics.unfold import channel_dim, fan_in_rows, output_rows

_STEEP = 1e-4
"""Part of the largest slope below which an entry is not fitted: dividing by its slope would amplify
rounding."""


class Rows(NamedTuple):
    """Rows of one batch.

    Attributes:
        x: ``[groups, n, F]``, what the weight is multiplied with.
        now: ``[n, O]``, the nodes as they are, behind the chain that follows the layer.
        wanted: ``[n, O]``, the nodes as they should be there.
        slope: ``[n, O]``, what the chain multiplies the layer's output with.
    """

    x: Tensor
    now: Tensor
    wanted: Tensor
    slope: Tensor


class FanIn:
    """The least-squares problem of one layer, taken in batch by batch; half of each batch checks the other.

    Args:
        module: a linear layer or a convolution.
        sink: takes a constant ``[O]`` to be added to the layer's output; ``None`` where there is none.
        aim: ``aim(now, wanted)``, how far each value is to move.
        turns: how often the aim is renewed.
    """

    def __init__(
        self,
        module: nn.Module,
        sink: Callable[[Tensor], None] | None,
        aim: Callable[[Tensor, Tensor], Tensor],
        turns: int,
    ) -> None:
        self._module, self._sink, self._aim, self._turns = module, sink, aim, turns
        self._halves: tuple[list[Rows], list[Rows]] = ([], [])

    def add(self, x: Tensor, now: Tensor, wanted: Tensor, slope: Tensor, places: Tensor) -> None:
        """Take in a batch: the layer's input, and maps shaped as its output, at the positions ``places``."""
        dim = channel_dim(self._module)
        middle = (x.shape[0] + 1) // 2
        for half, part in zip(self._halves, (slice(0, middle), slice(middle, None)), strict=True):
            if x[part].shape[0]:
                maps = (output_rows(each[part], dim, places) for each in (now, wanted, slope))
                half.append(Rows(fan_in_rows(self._module, x[part], places), *maps))

    def fit(self) -> bool:
        """Move the weight (and the constant) so that the nodes come to what is wanted.

        Returns:
            whether anything moved; nothing does where samples that the fit has not seen would be worse off.
        """
        every = [*self._halves[0], *self._halves[1]]
        groups = every[0].x.shape[0]
        none = every[0].x[:, :0]
        problem = ridge_regression(
            [torch.cat([none, *(rows.x for rows in half)], 1) for half in self._halves],
            self._sink is not None,
        )
        now = torch.cat([rows.now for rows in every])
        wanted = torch.cat([rows.wanted for rows in every])
        slope = torch.cat([rows.slope for rows in every])
        for half in self._halves:
            half.clear()
        steep = slope.abs() > _STEEP * slope.abs().amax()
        divisor = torch.where(steep, slope, torch.ones_like(slope))
        moved = torch.zeros_like(now)
        for turn in range(self._turns):
            step = self._aim(now + slope * moved, wanted)
            problem.set_target(_by_group(torch.where(steep, moved + step / divisor, moved), groups))
            if turn == 0 and problem.choose() is None:
                return False
            delta, constant = problem.solve()
            if turn + 1 < self._turns:
                moved = problem.predict(delta).transpose(0, 1).flatten(1)
        weight = ReadingWeight(self._module)
        weight.blocks += delta.transpose(1, 2).reshape(weight.blocks.shape).cpu()
        weight.write()
        if self._sink is not None:
            self._sink(constant.reshape(-1))
        return True


def _by_group(rows: Tensor, groups: int) -> Tensor:
    return rows.reshape(len(rows), groups, -1).transpose(0, 1)


_FLAT_BELOW = {"relu": 0.0, "relu_": 0.0, "relu6": 0.0, "gelu": -3.0, "silu": -6.0, "hardswish": -3.0}
"""Activation -> the value below which it is constant, or so close to it that its derivative is below 0.02."""


def straight(now: Tensor, wanted: Tensor) -> Tensor:
    """The difference itself, for a layer without a non-linearity."""
    return wanted - now


def activation_target(activation: Call | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The change of a value ``(now, wanted)`` when only the value after the non-linearity ``activation``
    counts.

    Where the wanted value lies on a flat stretch of it (below 0 of a ReLU), it is enough to reach it: the
    majorise-minimise step of the squared error after the non-linearity, the curvature taken as 1.
    """
    if activation is None:
        return straight
    low, high = -float("inf"), float("inf")
    if activation.name in ("hardtanh", "hardtanh_"):
        bounds = [*activation.args[1:3], activation.kwargs.get("min_val"), activation.kwargs.get("max_val")]
        low, high = [value for value in bounds if value is not None][:2] if bounds else (-1.0, 1.0)
    elif activation.name in _FLAT_BELOW:
        low = _FLAT_BELOW[activation.name]
        high = 6.0 if activation.name == "relu6" else high

    def aim(now: Tensor, wanted: Tensor) -> Tensor:
        goal = torch.where(wanted <= low, now.clamp(max=low), wanted)
        goal = torch.where(wanted >= high, now.clamp(min=high), goal)
        return goal - now

    return aim
