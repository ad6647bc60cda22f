"""One layer's fan-in fitted by ridge least squares to what its nodes are in the dense model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tsdistill.pruning.reader_weights import ReadingWeight
from tsdistill.pruning.realignment.least_squares import Ridge
from tsdistill.statistics.unfold import channel_dim, fan_in_rows, output_rows

_STEEP = 1e-4


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
        first, second = (torch.cat([none, *(rows.x for rows in half)], 1) for half in self._halves)
        now = torch.cat([rows.now for rows in every])
        wanted = torch.cat([rows.wanted for rows in every])
        slope = torch.cat([rows.slope for rows in every])
        for half in self._halves:
            half.clear()
        steep = slope.abs() > _STEEP * slope.abs().amax()
        divisor = torch.where(steep, slope, torch.ones_like(slope))
        moved = torch.zeros_like(now)
        ridge = None
        problem = Ridge((first, second), self._sink is not None)
        for _ in range(self._turns):
            step = self._aim(now + slope * moved, wanted)
            target = _by_group(torch.where(steep, moved + step / divisor, moved), groups)
            if ridge is None:
                ridge = problem.choose(target)
            if ridge is None:
                return False
            delta, constant = problem.solve(target, ridge)
            narrow = delta.to(now.dtype)
            moved = torch.cat([first @ narrow, second @ narrow], 1)
            moved = (moved + constant.to(now.dtype) if self._sink else moved).transpose(0, 1).flatten(1)
        weight = ReadingWeight(self._module)
        weight.blocks += delta.transpose(1, 2).reshape(weight.blocks.shape).cpu()
        weight.write()
        if self._sink is not None:
            self._sink(constant.reshape(-1))
        return True


def _by_group(rows: Tensor, groups: int) -> Tensor:
    return rows.reshape(len(rows), groups, -1).transpose(0, 1)
