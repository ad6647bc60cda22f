"""Least squares of a reading layer on second moments: which nodes of its input leave, and its new weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.pruning.selection.obs import OBSState, Part, eliminate

RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridges that compete, relative to the variance of an entry of the input."""

UNSEEN = 1e-1
"""The ridge where there are too few samples to try one on others."""

SELECTION = 1e-1
"""The relative ridge of the regression that nodes are selected by."""

_FLAT = 1e-9
"""Of the mean of the second moments, added to each: an entry that never varies has a ridge, too."""

_SMALLEST = 1e-30
"""Added to what is divided by."""

EVERY = 4
"""Every fourth sample is held out to choose the ridge; all of them are fitted on in the end."""


@dataclass(eq=False)
class Moments:
    """Sums over rows of a layer's input z ``[F]`` and of the output T ``[O]`` that it should give.

    Attributes:
        gram: sum of z zᵀ, float64 ``[F, F]``.
        cross: sum of T zᵀ, float64 ``[O, F]``.
        inputs: sum of z, float64 ``[F]``.
        targets: sum of T, float64 ``[O]``.
        square: sum of ‖T‖².
        rows: their number.
    """

    gram: Tensor
    cross: Tensor
    inputs: Tensor
    targets: Tensor
    square: float = 0.0
    rows: int = 0

    @classmethod
    def zeros(cls, width: int, outputs: int, device: torch.device) -> Moments:
        """Sums over no rows."""

        def new(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        return cls(new(width, width), new(outputs, width), new(width), new(outputs))

    def add(self, z: Tensor, target: Tensor) -> None:
        """Add rows ``z [n, F]`` and ``target [n, O]``, both float32."""
        self.gram += z.T @ z
        self.cross += target.T @ z
        self.inputs += z.sum(0, dtype=torch.float64)
        self.targets += target.sum(0, dtype=torch.float64)
        self.square += float(target.square().sum(dtype=torch.float64))
        self.rows += len(z)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.gram + other.gram,
            self.cross + other.cross,
            self.inputs + other.inputs,
            self.targets + other.targets,
            self.square + other.square,
            self.rows + other.rows,
        )

    def centred(self, constant: bool) -> Moments:
        """The sums about the mean, where the layer can add a constant."""
        if not constant or not self.rows:
            return self
        z, t = self.inputs / self.rows, self.targets / self.rows
        gram = self.gram - torch.outer(z, self.inputs)
        square = self.square - float(t @ self.targets)
        return Moments(
            gram, self.cross - torch.outer(t, self.inputs), self.inputs, self.targets, square, self.rows
        )

    def of(self, stay: Tensor) -> Moments:
        """The sums of some entries of z, bool ``[F]``."""
        gram, cross = self.gram[stay][:, stay], self.cross[:, stay]
        return Moments(gram, cross, self.inputs[stay], self.targets, self.square, self.rows)

    def error(self, weight: Tensor) -> float:
        """Sum of ‖T - weight z‖²."""
        return (
            self.square
            - 2 * float((weight * self.cross).sum())
            + float(((weight @ self.gram) * weight).sum())
        )


@dataclass(eq=False)
class ReaderFit:
    """What a layer becomes.

    Attributes:
        weight: float64 ``[O, F]``; zero where nodes have left.
        bias: float64 ``[O]``, ``None`` without one.
        removed: the nodes that leave, in that order.
        costs: what each adds to the sum of squares, in units of the target's.
        ridge: the relative ridge that was chosen.
        unseen: error on rows that were not fitted, as a part of the target's sum of squares.
    """

    weight: Tensor
    bias: Tensor | None
    removed: np.ndarray
    costs: np.ndarray
    ridge: float
    unseen: float


class ReaderRegression:
    """``min_W ‖T - W z‖² + λ Σ_f var(z_f) ‖W_f - W⁰_f‖²`` from moments of two parts of the rows.

    Args:
        fitted: moments of the rows that are fitted.
        held: moments of the rows that judge, both are fitted in the end; ``None`` without any.
        weight: W⁰, float64 ``[O, F]``.
        constant: whether the layer has a bias.

    Raises:
        TsdistillError: sums that are no numbers.
    """

    def __init__(self, fitted: Moments, held: Moments | None, weight: Tensor, constant: bool) -> None:
        self._parts = fitted, held
        self._weight, self._constant = weight, constant
        sums = [each for part in self._parts if part is not None for each in (part.gram, part.cross)]
        if not all(bool(torch.isfinite(each).all()) for each in sums):
            raise TsdistillError(
                "the activations of the model hold NaN or infinite values on these data; load it in a wider "
                "type (float32), or look at the data"
            )
        self._all = (fitted if held is None else fitted + held).centred(constant)
        scale = self._all.gram.diagonal()
        self._scale = scale + _FLAT * scale.mean() + _SMALLEST

    def choose(self, features: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
        """The nodes that leave, in order, until ``keep`` are left, and the cost of each.

        Optimal brain surgeon on the regression itself: the cost of a node is what the penalised residual
        grows by when it leaves and the others are fitted again.

        Args:
            features: int64 ``[nodes, m]``, the entries of z that belong to each node.
            keep: number of nodes that stay.
        """
        whole, ridge = self._all, SELECTION
        ridged = whole.gram + torch.diag(ridge * self._scale)
        precision = torch.cholesky_inverse(torch.linalg.cholesky(ridged))
        fit = (whole.cross + ridge * self._weight * self._scale) @ precision
        nodes = np.arange(len(features))
        state = OBSState(precision.cpu().numpy(), (fit.T @ fit).cpu().numpy(), [Part(nodes, features)])
        ones = np.ones(len(nodes))
        none = np.zeros(len(nodes), dtype=bool)
        return eliminate([state], np.zeros(len(nodes), dtype=np.int64), np.array([keep]), ones, none)

    def solve(self, moments: Moments, ridge: float, stay: Tensor) -> Tensor:
        """The weight on the entries ``stay``, float64 ``[O, K]``.

        Args:
            moments: of the rows that are fitted, of these entries alone.
            ridge: relative ridge.
            stay: bool ``[F]``.
        """
        scale = ridge * self._scale[stay] * (moments.rows / max(self._all.rows, 1))
        right = moments.cross + self._weight[:, stay] * scale
        return torch.cholesky_solve(right.T, torch.linalg.cholesky(moments.gram + torch.diag(scale))).T

    def best_ridge(self, stay: Tensor) -> tuple[float, float]:
        """The ridge with the least error on the rows that are held out, and that error relative to ‖T‖².

        Ridges are tried from the middle on, as long as the error falls: it has one minimum.
        """
        if self._parts[1] is None:
            return UNSEEN, float("nan")
        parts = [part.centred(self._constant).of(stay) for part in self._parts if part is not None]
        errors: dict[float, float] = {}

        def error(place: int) -> float:
            ridge = RIDGES[place]
            if ridge not in errors:
                errors[ridge] = parts[1].error(self.solve(parts[0], ridge, stay))
            return errors[ridge]

        best = RIDGES.index(UNSEEN)
        for step in (1, -1):
            while 0 <= best + step < len(RIDGES) and error(best + step) < error(best):
                best += step
        return RIDGES[best], error(best) / max(parts[1].square, _SMALLEST)

    def fit(self, features: np.ndarray, keep: int) -> ReaderFit:
        """Choose the nodes that leave and fit the layer to those that stay.

        Args:
            features: int64 ``[nodes, m]``, the entries of z that belong to each node.
            keep: number of nodes that stay.
        """
        removed, costs = self.choose(features, keep)
        return self.without(features, removed, costs)

    def without(self, features: np.ndarray, removed: np.ndarray, costs: np.ndarray) -> ReaderFit:
        """Fit the layer to the nodes that stay.

        Args:
            features: int64 ``[nodes, m]``, the entries of z that belong to each node.
            removed: the nodes that leave.
            costs: what each costs.
        """
        stay = torch.ones(self._weight.shape[1], dtype=torch.bool)
        stay[torch.from_numpy(features[removed].reshape(-1))] = False
        ridge, unseen = self.best_ridge(stay)
        weight = torch.zeros_like(self._weight)
        weight[:, stay] = self.solve(self._all.of(stay), ridge, stay)
        bias = (self._all.targets - weight @ self._all.inputs) / self._all.rows if self._constant else None
        return ReaderFit(weight, bias, removed, costs, ridge, unseen)
