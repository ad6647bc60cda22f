"""Nodes left out of a chain, layer by layer, and what remains fitted to what was: least squares, no steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tsdistill.lab.layers.layer_chain import Chain, State

RIDGE = 1e-10
ROWS = 20_000


@dataclass(frozen=True, eq=False)
class Thinned:
    """A chain on fewer nodes, in the weights of the whole one.

    Attributes:
        states: the parameters at first and after each layer; nodes that left have no fan-out.
        kept: int64 indices of the nodes that stay, one tensor a hidden layer.
    """

    states: tuple[State, ...]
    kept: tuple[Tensor, ...]


def survivors(covariance: Tensor, readers: Tensor, count: int) -> Tensor:
    """Nodes that stay when one after the other leaves, each time the one that costs least.

    The cost of node k is ‖v_k‖² / (G⁻¹)_kk, what its readers lose once they have taken over the best linear
    prediction of it (the optimal-brain-surgeon score).

    Args:
        covariance: G ``[n, n]`` of the activations.
        readers: v_k, the weights that read each node ``[n, q]``.
        count: how many stay.

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
def thinned(chain: Chain, state: State, x: Tensor, counts: list[int], seed: int = 0) -> Thinned:
    """Leave out nodes from the input on; the readers of a layer are refitted to what they wrote before.

    Args:
        chain: the model.
        state: its parameters.
        x: samples ``[N, ...]`` to fit on.
        counts: how many nodes stay in each hidden layer.
        seed: which positions of feature maps are fitted on, where there are more than `ROWS` rows.

    Returns:
        the steps; the first state is ``state``.
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
        if len(rows) > ROWS:
            picked = torch.randperm(len(rows), generator=generator)[:ROWS]
            rows, target = rows[picked], target[picked]
        weight = chain.by_node(now, layer + 1)
        bias = now.get(f"{chain.names[layer + 1]}.bias")
        nodes = rows.movedim(1, 2).flatten(0, 1).double()
        if bias is not None:
            nodes = nodes - nodes.mean(0)
        stay = survivors(nodes.T @ nodes / len(nodes), weight.movedim(1, 0).flatten(1), count)
        _refit(weight, bias, rows, target, stay)
        states.append(now)
        kept.append(stay)
    return Thinned(tuple(states), tuple(kept))


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
