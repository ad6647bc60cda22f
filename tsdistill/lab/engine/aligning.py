"""How the nodes of students and teachers compare on samples: correlations, losses, strengths."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tsdistill.lab.engine.descent import targets
from tsdistill.lab.engine.drawing import generator_of
from tsdistill.lab.engine.networks import Networks

HELD = 1 << 26
"""Bytes of activations that are held at once."""
DIRECTIONS = 5


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
    found = []
    for where, own in _parts(students, x):
        ours = _standardised(teachers.some(where).hidden(own)[layer])
        theirs = _standardised(students.some(where).hidden(own)[layer])
        found.append(torch.bmm(ours, theirs.transpose(1, 2)).clamp_(-1, 1))
    return torch.cat(found)


def best_correlations(
    teachers: Networks, students: Networks, x: Tensor, layer: int = 0
) -> tuple[Tensor, Tensor]:
    """The best student node's correlation for each teacher node, and the other way round.

    Returns:
        ``[S, m_l]`` and ``[S, n_l]``; see `correlations`.
    """
    every = correlations(teachers, students, x, layer)
    return every.amax(2), every.amax(1)


@torch.no_grad()
def losses(teachers: Networks, students: Networks, x: Tensor) -> Tensor:
    """J = E‖f*(x) − f(x)‖²/2 ``[S]`` of each student over ``x [N, d]`` or ``[S, N, d]``."""
    found = []
    for where, own in _parts(students, x):
        left = targets(teachers.some(where), own) - targets(students.some(where), own)
        found.append(left.square_().sum(1).mean(1) / 2)
    return torch.cat(found)


@torch.no_grad()
def energies(networks: Networks, x: Tensor) -> Tensor:
    """E‖f(x)‖²/2 ``[S]``: the loss of a student that gives 0."""
    return torch.cat(
        [
            targets(networks.some(where), own).square_().sum(1).mean(1) / 2
            for where, own in _parts(networks, x)
        ]
    )


def fan_out_norms(networks: Networks) -> Tensor:
    """‖v_k‖ ``[S, n]`` of the last hidden layer's nodes."""
    return networks.fan_out.norm(dim=2)


@torch.no_grad()
def deviations(networks: Networks, x: Tensor) -> list[Tensor]:
    """Standard deviations ``[S, n_l]`` of every hidden layer over ``x [N, d]`` or ``[S, N, d]``."""
    found = []
    for where, own in _parts(networks, x):
        acts = networks.some(where).hidden(own)
        found.append([act.std(2) for act in acts])
    return [torch.cat(layer) for layer in zip(*found, strict=True)]


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
    found: list[list[Tensor]] = []
    for where, own in _parts(networks, x):
        some = networks.some(where)
        acts = some.hidden(own)
        sums = [torch.zeros_like(act[:, :, 0]) for act in acts[:-1]]
        for _ in range(DIRECTIONS if len(acts) > 1 else 0):
            shape = (some.count, some.outputs, acts[0].shape[2])
            above = torch.randn(shape, generator=generator).to(acts[0])
            for layer in range(some.depth - 1, -1, -1):
                above = torch.bmm(some.weights[layer + 1], above)
                if layer < some.depth - 1:
                    sums[layer] += above.square().mean(2) / DIRECTIONS
                above *= acts[layer] > 0
        found.append([*(each.sqrt() for each in sums), fan_out_norms(some)])
    return [torch.cat(layer) for layer in zip(*found, strict=True)]


def _standardised(activations: Tensor) -> Tensor:
    centred = activations - activations.mean(2, keepdim=True)
    norms = centred.norm(dim=2, keepdim=True)
    small = norms <= 1e-6 * activations.norm(dim=2, keepdim=True)
    return (centred / norms.masked_fill(small, 1)).masked_fill_(small, 0)


def _parts(networks: Networks, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """So many networks at a time that their activations can be held, with their own samples."""
    nodes = 2 * max(*networks.widths, networks.outputs) + networks.inputs
    one = nodes * x.shape[-2] * x.element_size()
    most = max(1, HELD // one)
    for start in range(0, networks.count, most):
        where = slice(start, start + most)
        yield where, x if x.dim() == 2 else x[where]
