"""How a weight that a forward computes is set: through one of the parameters that it is computed from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.layers.layer_kind import kind_of

SMALLEST = 1e-5
"""The smallest part of the largest factor between a parameter and a weight that is divided by: beyond it a
parameter would have to be so large that float32 loses the weight."""

_EXACT = 1e-4
"""How far, relative to the largest entry, what is computed in float32 may be from what it should be."""

_DIGIT = 1024
"""Positions are read off sums in float32, digit by digit of this base, where they are exact."""


class SourceSolver(ABC):
    """A way to make a weight another one through one parameter, in which it is affine.

    Attributes:
        source: name of the parameter in the model.
        shape: shape of the weight.
        held: shape of the parameter.
        any_weight: whether the weight can become any other; else only one whose inputs are mixtures of its
            own, as when a reader compensates for inputs that leave.
    """

    source: str
    shape: torch.Size
    held: torch.Size
    any_weight: bool

    def is_of(self, layer: ComputedCall) -> bool:
        """Whether this was found for the weight and the parameter that a call has now."""
        parameter = layer.get_parameter(layer.name_of(self.source))
        return (layer.weight.shape, parameter.shape) == (self.shape, self.held)

    def __deepcopy__(self, memo: dict[int, Any]) -> SourceSolver:
        return self  # nothing of it ever changes

    @abstractmethod
    def solve(self, parameter: Tensor, weight: Tensor, wanted: Tensor) -> Tensor:
        """The parameter that makes ``weight`` the ``wanted`` one, or comes nearest to it."""


@dataclass(frozen=True, eq=False)
class Entries(SourceSolver):
    """Every entry of the weight is an entry of the parameter times a factor, and something added.

    Attributes:
        index: int64, shaped as the weight: position in the flattened parameter.
        factor: shaped as the weight.
    """

    source: str
    held: torch.Size
    index: Tensor
    factor: Tensor
    any_weight = True

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """Shape of the weight."""
        return self.index.shape

    def solve(self, parameter: Tensor, weight: Tensor, wanted: Tensor) -> Tensor:
        """See `SourceSolver.solve`."""
        flat = parameter.reshape(-1).clone()
        flat[self.index.reshape(-1)] += ((wanted - weight) / self.factor).reshape(-1).to(flat)
        return flat.reshape(parameter.shape)

    def side_of(self, dim: int) -> tuple[int, np.ndarray] | None:
        """Where the coordinates of the weight along ``dim`` lie in the parameter.

        Returns:
            a dimension of the parameter and its coordinate for each of the weight, int64; ``None``
            where a coordinate of the weight does not lie at one of its own.
        """
        entries = self.index.movedim(dim, 0).flatten(1).cpu().numpy()
        for place, coords in enumerate(np.unravel_index(entries, tuple(self.held))):
            first = coords[:, 0]
            if (coords == first[:, None]).all() and len(np.unique(first)) == len(first):
                return place, first
        return None


@dataclass(frozen=True, eq=False)
class Factor(SourceSolver):
    """The weight is a product of which the parameter is the factor that meets the input.

    Attributes:
        turned: whether the parameter is the first factor, ``[inputs, rank]``; weight: ``[inputs, outputs]``.
        other: float64 ``[outputs, rank]``, the other factor.
    """

    source: str
    shape: torch.Size
    held: torch.Size
    turned: bool
    other: Tensor
    any_weight = False

    def solve(self, parameter: Tensor, weight: Tensor, wanted: Tensor) -> Tensor:  # noqa: ARG002
        """See `SourceSolver.solve`."""
        goal = (wanted.t() if self.turned else wanted).flatten(1).to(self.other)
        solution = torch.linalg.lstsq(self.other, goal).solution
        rows = parameter.t() if self.turned else parameter
        solution = solution.to(parameter).reshape(rows.shape)
        return solution.t() if self.turned else solution


def source_solvers(
    layer: ComputedCall, weight: Tensor, sources: dict[str, nn.Parameter]
) -> list[tuple[float, SourceSolver]]:
    """Settings that a weight may have, each with a merit, best first; whether they hold has to be tried.

    Args:
        layer: the call.
        weight: its weight, on its autograd graph.
        sources: the parameters behind it, by name.
    """
    solvers: list[tuple[float, SourceSolver]] = []
    if weight.requires_grad:
        solvers += [each for name, p in sources.items() if (each := _entries(name, p, weight)) is not None]
    solvers.sort(key=lambda each: -each[0])
    factors = (_factor(name, p, weight.detach(), layer) for name, p in sources.items())
    return [*solvers, *((0.0, each) for each in factors if each is not None)]


def _entries(name: str, parameter: nn.Parameter, weight: Tensor) -> tuple[float, Entries] | None:
    places = torch.arange(weight.numel(), device=weight.device).reshape(weight.shape)
    probe = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)).to(weight)
    sums = []
    for vector in (torch.ones_like(weight), places % _DIGIT, places // _DIGIT, probe):
        (back,) = torch.autograd.grad(
            weight, parameter, vector.to(weight), retain_graph=True, allow_unused=True
        )
        if back is None:
            return None
        sums.append(back.reshape(-1).double())
    factor, low, high, probed = sums
    met = factor.abs() > SMALLEST * factor.abs().max()
    if not bool(met.any()):
        return None
    safe = torch.where(met, factor, torch.ones_like(factor))
    place = (low / safe).round().long() + _DIGIT * (high / safe).round().long()
    if bool(((place < 0) | (place >= weight.numel()))[met].any()):
        return None
    place = torch.where(met, place, torch.zeros_like(place))
    wanted = factor * probe.reshape(-1).double()[place]
    if not _equal(wanted[met], probed[met]):
        return None
    order = torch.argsort(factor.abs(), stable=True)
    order = order[met[order]]
    index = torch.full((weight.numel(),), -1, device=weight.device)
    index[place[order].cpu().to(weight.device)] = order
    if bool((index < 0).any()):
        return None
    factors = factor[index]
    merit = float(factors.abs().min() / factors.abs().max())
    if merit < SMALLEST:
        return None
    return merit, Entries(name, parameter.shape, index.reshape(weight.shape), factors.reshape(weight.shape))


def _factor(name: str, parameter: nn.Parameter, weight: Tensor, layer: ComputedCall) -> Factor | None:
    kind = kind_of(layer)
    if kind is None or parameter.ndim != weight.ndim:
        return None
    turned = kind.output_dim == 1
    if turned and (weight.ndim != 2 or parameter.shape[0] != weight.shape[0]):
        return None
    if not turned and parameter.shape[1:] != weight.shape[1:]:
        return None
    rows, wide = ((each.t() if turned else each).detach().flatten(1) for each in (parameter, weight))
    rows, wide = rows.double().cpu(), wide.double().cpu()  # there lstsq takes matrices of any rank
    if len(rows) > rows.shape[1]:
        return None
    other = torch.linalg.lstsq(rows.t(), wide.t()).solution.t()
    return Factor(name, weight.shape, parameter.shape, turned, other) if _equal(other @ rows, wide) else None


def _equal(one: Tensor, other: Tensor) -> bool:
    apart, size = (one - other).abs().max(), other.abs().max()
    return bool(apart <= _EXACT * size)
