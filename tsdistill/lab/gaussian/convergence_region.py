"""One student node and one teacher node: guaranteed and observed convergence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy import integrate, special, stats
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.gaussian.gradient_flow import gradient_flow


def in_guaranteed_region(students: Tensor, teacher: Tensor) -> Tensor:
    """Whether ‖w − w*‖ < ‖w*‖, from where the flow is guaranteed to reach w*.

    Source: arXiv 1703.00560, the theorem on one node (½‖w − w*‖² is a Lyapunov function there).

    Args:
        students: w ``[..., d]``.
        teacher: w* ``[d]``.
    """
    return (students - teacher).norm(dim=-1) < teacher.norm()


def ball_radius(epsilon: float, dimension: int) -> float:
    """r = ε √(2π / (d + 1)), in lengths of w*.

    A start that is uniform in the ball of that radius is in the guaranteed region with probability at least
    (1 − ε)/2. Source: arXiv 1703.00560, the theorem on random starts of one node.

    Raises:
        TsdistillError: ε is not between 0 and 1, or d is not positive.
    """
    if not 0 < epsilon < 1 or dimension < 1:
        raise TsdistillError(
            f"epsilon {epsilon:g}, dimension {dimension}: give 0 < epsilon < 1 and d of 1 or more"
        )
    return epsilon * math.sqrt(2 * math.pi / (dimension + 1))


def ball_probability(dimension: int, reach: float) -> float:
    """Probability that a start uniform in the ball ‖w‖ ≤ reach is in the guaranteed region, ‖w*‖ = 1.

    At distance s the region is the cap cos θ > s/2 of the sphere.

    Args:
        dimension: d, at least 2.
        reach: in lengths of w*.
    """

    def at(share: float) -> float:
        half = share * reach / 2
        if half >= 1:
            return 0.0
        cap = special.betainc((dimension - 1) / 2, 0.5, 1 - half * half) / 2
        return float(dimension * share ** (dimension - 1) * cap)

    probability, _ = integrate.quad(at, 0, 1, limit=200, epsabs=1e-11)
    return float(probability)


def gaussian_probability(dimension: int, deviation: float) -> float:
    """Probability that a start with coordinates N(0, deviation²) is in the guaranteed region, ‖w*‖ = 1.

    With z ~ N(0, I) and q = Σ_{i>1} z_i² ~ χ²(d − 1), it is there where σ z₁² − 2 z₁ + σ q < 0.

    Args:
        dimension: d, at least 2.
        deviation: σ of each coordinate, in lengths of w*.
    """
    freedom = dimension - 1
    scale = special.gammaln(freedom / 2) + freedom / 2 * math.log(2)

    def at(rest: float) -> float:
        if rest <= 0:
            return 0.0
        root = math.sqrt(max(1 - deviation**2 * rest, 0.0))
        low = deviation * rest / (1 + root)
        window = special.ndtr((1 + root) / deviation) - special.ndtr(low)
        return math.exp((freedom / 2 - 1) * math.log(rest) - rest / 2 - scale) * float(window)

    top = min(1 / deviation**2, float(stats.chi2.isf(1e-14, freedom)))
    middle = [point for point in (float(stats.chi2.median(freedom)),) if point < top]
    probability, _ = integrate.quad(at, 0, top, points=middle, limit=400, epsabs=1e-11)
    return float(probability)


def plane_coordinates(students: Tensor, teacher: Tensor) -> Tensor:
    """Coordinates along w* and across it, in lengths of w*: all that the flow of one node depends on.

    Args:
        students: w ``[S, d]``.
        teacher: w* ``[d]``.

    Returns:
        ``[S, 2]``, the second not negative.
    """
    length = teacher.norm()
    along = students @ teacher / length
    across = (students - along.unsqueeze(-1) * teacher / length).norm(dim=-1)
    return torch.stack([along, across], -1) / length


def flow_distances(plane: Tensor, times: Sequence[float]) -> Tensor:
    """‖w(t) − w*‖/‖w*‖ under the gradient flow of one node.

    Args:
        plane: starts as `plane_coordinates` gives them, ``[S, 2]``, of any dimensions.
        times: increasing, from 0.

    Returns:
        ``[len(times), S]``.
    """
    goal = plane.new_tensor([[1.0, 0.0]])
    path = gradient_flow(plane.unsqueeze(1), goal, times)
    return (path - goal).norm(dim=-1)[..., 0]


def sgd_end(
    students: Tensor, teacher: Tensor, time: float, batch: int, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Stochastic gradient descent from each start, on fresh Gaussian batches that all starts share.

    The rate is batch/(batch + d), about as large as is stable; ``time`` is rate times steps.

    Args:
        students: starts ``[S, d]``.
        teacher: w* ``[d]``.
        time: end of the descent, rate times steps.
        batch: samples of a step.
        generator: of the samples.

    Returns:
        the weights ``[S, d]`` and the number of steps.
    """
    dimension = students.shape[1]
    rate = batch / (batch + dimension)
    steps = math.ceil(time / rate)
    weights = students.clone()
    for _ in range(steps):
        x = torch.randn(batch, dimension, generator=generator, dtype=weights.dtype)
        pre = x @ weights.T
        left = (x @ teacher).relu().unsqueeze(1) - pre.relu()
        weights.addmm_((left * (pre > 0)).T, x, alpha=rate / batch)
    return weights, steps
