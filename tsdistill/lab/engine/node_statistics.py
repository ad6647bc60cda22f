"""Correlations, losses and strengths of students and teachers, and summaries of them over many networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from tsdistill.lab.engine.network_stack import Networks
from tsdistill.lab.engine.random_draws import generator_of
from tsdistill.lab.engine.sgd import teacher_outputs

OBSERVED_SAMPLES = 2048
"""Samples on which nodes are observed: independent nodes then correlate by about 1/√2048 = 0.02."""

ALIGNED = 0.9
"""Correlation from which on a student node counts as aligned with a teacher node: the default of
`tsdistill.options.AnalysisOptions`."""
CORRELATION_EDGES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
"""Edges of the bins of correlation of `l_curve`; nodes below 0 count in the first. They are
finer near 1."""


def rank_correlation(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Spearman's coefficient with ties at their mean rank; NaN where one of them is constant."""
    ranks = [rankdata(each) for each in (a, b)]
    if any(np.ptp(each) == 0 for each in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def l_curve(correlation: Tensor, strength: Tensor) -> dict[str, Any]:
    """An L-shaped curve in bins of correlation.

    Args:
        correlation: of each student node with its best teacher node, any shape.
        strength: of each student node, the same shape.

    Returns:
        ``count`` and quartiles ``low``, ``median``, ``high`` of the strength in each bin of
        `CORRELATION_EDGES` (``None`` where it is empty); ``unaligned``: the share of all squared strength
        of nodes below `ALIGNED`; ``ratio``: median strength of nodes below 0.5 over that of aligned ones
        (``None`` without one of either).
    """
    x = correlation.flatten().double().clamp(0, 1).numpy()
    y = strength.flatten().double().numpy()
    place = np.clip(np.digitize(x, CORRELATION_EDGES) - 1, 0, len(CORRELATION_EDGES) - 2)
    bins = [y[place == k] for k in range(len(CORRELATION_EDGES) - 1)]
    low, aligned, total = y[x < 0.5], y[x >= ALIGNED], float((y**2).sum())
    return {
        "count": [len(each) for each in bins],
        **{
            name: [rounded(np.quantile(each, q)) if len(each) else None for each in bins]
            for name, q in (("low", 0.25), ("median", 0.5), ("high", 0.75))
        },
        "unaligned": rounded((y[x < ALIGNED] ** 2).sum() / total if total else 0.0),
        "ratio": rounded(np.median(low) / np.median(aligned)) if len(low) and len(aligned) else None,
    }


def curve_points(correlation: Tensor, strength: Tensor, count: int) -> list[list[float]]:
    """At most ``count`` evenly spaced points [correlation, strength] of all nodes."""
    x, y = correlation.flatten(), strength.flatten()
    step = max(1, -(-len(x) // count))
    return [[rounded(a), rounded(b)] for a, b in zip(x[::step].tolist(), y[::step].tolist(), strict=True)]


def rounded(value: Any, digits: int = 4) -> Any:
    """Numbers, lists or tensors rounded to ``digits`` significant digits; ``None`` for NaN."""
    if isinstance(value, Tensor | np.ndarray):
        return rounded(value.tolist(), digits)
    if isinstance(value, list | tuple):
        return [rounded(each, digits) for each in value]
    if isinstance(value, bool | int) or value is None:
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


ACTIVATION_BYTES = 1 << 26
"""Bytes of activations that are held at once, 64 MiB: small beside the memory of any machine."""
OUTPUT_DIRECTIONS = 5
"""Random output directions that E[β_kk] is averaged over; each costs one backward pass, and the average
is over samples too."""


@torch.no_grad()
def correlations(teachers: Networks, students: Networks, x: Tensor, layer: int = 0) -> Tensor:
    """Correlation over samples of every teacher node's activation with every student node's.

    Args:
        teachers: S networks.
        students: S networks.
        x: ``[N, d]``, or ``[S, N, d]``.
        layer: the hidden layer, counted from 0 in both.

    Returns:
        ``[S, m_l, n_l]`` in [-1, 1]; 0 where a node does not vary.
    """
    parts = []
    for where, own in _parts(students, x):
        ours = _standardised(teachers.some(where).hidden(own)[layer])
        other_nodes = _standardised(students.some(where).hidden(own)[layer])
        parts.append(torch.bmm(ours, other_nodes.transpose(1, 2)).clamp_(-1, 1))
    return torch.cat(parts)


def best_correlations(
    teachers: Networks, students: Networks, x: Tensor, layer: int = 0
) -> tuple[Tensor, Tensor]:
    """The largest correlation of each teacher node, and of each student node.

    Returns:
        ``[S, m_l]`` and ``[S, n_l]``; see `correlations`.
    """
    every = correlations(teachers, students, x, layer)
    return every.amax(2), every.amax(1)


@torch.no_grad()
def losses(teachers: Networks, students: Networks, x: Tensor) -> Tensor:
    """J = E‖f*(x) − f(x)‖²/2 ``[S]`` of each student over ``x [N, d]`` or ``[S, N, d]``."""
    parts = []
    for where, own in _parts(students, x):
        left = teacher_outputs(teachers.some(where), own) - teacher_outputs(students.some(where), own)
        parts.append(left.square_().sum(1).mean(1) / 2)
    return torch.cat(parts)


@torch.no_grad()
def energies(networks: Networks, x: Tensor) -> Tensor:
    """E‖f(x)‖²/2 ``[S]``: the loss of a student with output 0."""
    return torch.cat(
        [
            teacher_outputs(networks.some(where), own).square_().sum(1).mean(1) / 2
            for where, own in _parts(networks, x)
        ]
    )


def relative_losses(teachers: Networks, students: Networks, x: Tensor) -> Tensor:
    """E‖f* − f‖² / E‖f*‖² ``[S]`` over ``x [N, d]`` or ``[S, N, d]``."""
    return losses(teachers, students, x) / energies(teachers, x)


def fan_out_norms(networks: Networks) -> Tensor:
    """‖v_k‖ ``[S, n]`` of the last hidden layer's nodes."""
    return networks.fan_out.norm(dim=2)


@torch.no_grad()
def deviations(networks: Networks, x: Tensor) -> list[Tensor]:
    """Standard deviations ``[S, n_l]`` of every hidden layer over ``x [N, d]`` or ``[S, N, d]``."""
    parts = []
    for where, own in _parts(networks, x):
        acts = networks.some(where).hidden(own)
        parts.append([act.std(2) for act in acts])
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


@torch.no_grad()
def modulations(networks: Networks, x: Tensor, seed: int = 0) -> list[Tensor]:
    """sqrt E[β_kk] of the nodes of every hidden layer, β = V_lᵀ V_l (Lemma 1 of arXiv 1909.13458).

    β_kk(x) = ‖∂f(x)/∂h_k‖², estimated as E_r (rᵀ ∂f/∂h_k)² with r ~ N(0, I), one backward pass for every
    direction r; exact for the last hidden layer, where it is ‖v_k‖².

    Args:
        networks: S of them.
        x: ``[N, d]``, or ``[S, N, d]``.
        seed: decides the directions.

    Returns:
        ``[S, n_l]`` for each hidden layer l.
    """
    generator = generator_of(seed)
    parts: list[list[Tensor]] = []
    for where, own in _parts(networks, x):
        some = networks.some(where)
        acts = some.hidden(own)
        sums = [torch.zeros_like(act[:, :, 0]) for act in acts[:-1]]
        for _ in range(OUTPUT_DIRECTIONS if len(acts) > 1 else 0):
            shape = (some.count, some.outputs, acts[0].shape[2])
            above = torch.randn(shape, generator=generator).to(acts[0])
            for layer in range(some.depth - 1, -1, -1):
                above = torch.bmm(some.weights[layer + 1], above)
                if layer < some.depth - 1:
                    sums[layer] += above.square().mean(2) / OUTPUT_DIRECTIONS
                above *= acts[layer] > 0
        parts.append([*(each.sqrt() for each in sums), fan_out_norms(some)])
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


def _standardised(activations: Tensor) -> Tensor:
    centred = activations - activations.mean(2, keepdim=True)
    norms = centred.norm(dim=2, keepdim=True)
    small = norms <= 1e-6 * activations.norm(dim=2, keepdim=True)
    return (centred / norms.masked_fill(small, 1)).masked_fill_(small, 0)


def _parts(networks: Networks, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Parts of the stack whose activations fit into `ACTIVATION_BYTES`, with their samples."""
    nodes = 2 * max(*networks.widths, networks.outputs) + networks.inputs
    one = nodes * x.shape[-2] * x.element_size()
    most = max(1, ACTIVATION_BYTES // one)
    for start in range(0, networks.count, most):
        where = slice(start, start + most)
        yield where, x if x.dim() == 2 else x[where]
