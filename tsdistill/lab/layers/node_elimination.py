"""Elimination of nodes from a chain, layer by layer, with least-squares refits of their readers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.lab.layers.layer_chain import Chain, State

RIDGE = 1e-10
"""Share of the mean diagonal that is added to it, so that a singular covariance can be inverted."""
LARGEST_ROWS = 20_000
"""Most rows (samples times positions) of a fit; bounds its memory."""


@dataclass(frozen=True, eq=False)
class Elimination:
    """A chain with fewer active nodes, in parameters of the full shape.

    Attributes:
        states: parameters before, and after each layer; eliminated nodes have fan-out 0.
        kept: int64 indices of the remaining nodes, one tensor for each hidden layer.
    """

    states: tuple[State, ...]
    kept: tuple[Tensor, ...]


def select_nodes(covariance: Tensor, readers: Tensor, count: int) -> Tensor:
    """Nodes that remain when the cheapest node is eliminated repeatedly.

    The cost of node k is ‖v_k‖² / (G⁻¹)_kk: the error of its readers once they use the best linear prediction
    of it from the others (optimal brain surgeon, Hassibi and Stork 1993).

    Args:
        covariance: G ``[n, n]`` of the activations.
        readers: v_k, the weights that read each node ``[n, q]``.
        count: number of nodes that remain.

    Returns:
        int64 ``[count]``, in order.
    """
    g, v = covariance.double(), readers.double()
    ridge = RIDGE * g.diagonal().mean().clamp_min(1e-300)
    g = g + ridge * torch.eye(len(g), dtype=g.dtype, device=g.device)
    left = torch.ones(len(g), dtype=torch.bool, device=g.device)
    for _ in range(len(g) - count):
        inverse = torch.linalg.inv(g[left][:, left])
        taken_over = v[left] + inverse @ g[left][:, ~left] @ v[~left]
        cost = taken_over.square().sum(1) / inverse.diagonal().clamp_min(1e-300)
        left[left.nonzero()[int(cost.argmin()), 0]] = False
    return left.nonzero()[:, 0]


@torch.no_grad()
def eliminate_nodes(chain: Chain, state: State, x: Tensor, counts: list[int], seed: int = 0) -> Elimination:
    """Eliminate nodes from the lowest layer on; readers of each layer are refitted to their original outputs.

    Args:
        chain: the model.
        state: its parameters.
        x: samples ``[N, ...]`` of the fit.
        counts: number of remaining nodes of each hidden layer.
        seed: of the choice of rows, if there are more than `LARGEST_ROWS`.

    Returns:
        the eliminations; the first of their states is ``state``.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = [written for _, written in chain.passing(state, x)]
    states: list[State] = [state]
    kept = []
    for layer, count in enumerate(counts):
        now = {name: value.clone() for name, value in states[-1].items()}
        received = chain.passing(now, x)[layer + 1][0]
        rows = chain.rows(layer + 1, received)
        target = wanted[layer + 1]
        target = (target.movedim(1, -1) if target.ndim == 4 else target).flatten(0, -2)
        if len(rows) > LARGEST_ROWS:
            picked = torch.randperm(len(rows), generator=generator)[:LARGEST_ROWS]
            rows, target = rows[picked], target[picked]
        weight = chain.by_node(now, layer + 1)
        bias = now.get(f"{chain.names[layer + 1]}.bias")
        nodes = rows.movedim(1, 2).flatten(0, 1).double()
        if bias is not None:
            nodes = nodes - nodes.mean(0)
        stay = select_nodes(nodes.T @ nodes / len(nodes), weight.movedim(1, 0).flatten(1), count)
        _refit(weight, bias, rows, target, stay)
        states.append(now)
        kept.append(stay)
    return Elimination(tuple(states), tuple(kept))


def _refit(weight: Tensor, bias: Tensor | None, rows: Tensor, target: Tensor, stay: Tensor) -> None:
    """``weight [out, read, rest]`` and ``bias`` in place: from the nodes that stay to ``target``."""
    start = weight[:, stay].clone()
    a = rows[:, stay].flatten(1).double()
    missing = target.double() - a @ start.flatten(1).double().T
    if bias is not None:
        a_mean, missing_mean = a.mean(0), missing.mean(0)
        a, missing = a - a_mean, missing - missing_mean
    g = a.T @ a
    ridge = RIDGE * g.diagonal().mean().clamp_min(1e-300)
    step = torch.linalg.solve(g + ridge * torch.eye(len(g), dtype=g.dtype, device=g.device), a.T @ missing)
    weight.zero_()
    weight[:, stay] = (start.double() + step.T.view_as(start)).to(weight)
    if bias is not None:
        bias.copy_((missing_mean - a_mean @ step).to(bias))
