"""What the theorems speak of, measured on stacks of two-layer students: gradients, observers, strengths."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tsdistill.lab.engine import Networks
from tsdistill.lab.layers.bound import misalignment
from tsdistill.lab.layers.observers import observe

NEAR = 0.1


def augmented_fan_in(networks: Networks) -> Tensor:
    """Fan-in weights of the lowest layer with the bias as one more entry ``[S, n, d + 1]``."""
    fan_in = networks.fan_in
    bias = networks.biases[0] if networks.biases else fan_in.new_zeros(fan_in.shape[:2])
    return torch.cat([fan_in, bias[..., None]], -1)


@torch.no_grad()
def lowest_gradients(teachers: Networks, students: Networks, x: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of Lemma 1 at the nodes of two-layer students, g_1(x) = D V (f*(x) − f(x)).

    Args:
        teachers: S networks.
        students: S two-layer networks.
        x: samples ``[N, d]``.

    Returns:
        the largest absolute entry over samples and nodes ``[S]``; and ‖g_1(x)‖ by the root mean square (over
        samples) of what it would be if the student gave 0, ``[S, N]``.
    """
    wanted = teachers(x)
    on = students.hidden(x)[0] > 0
    g = torch.bmm(students.fan_out, (wanted - students(x)).transpose(1, 2)) * on
    whole = torch.bmm(students.fan_out, wanted.transpose(1, 2)) * on
    tiny = torch.finfo(g.dtype).tiny
    scale = whole.square().sum(1).mean(1, keepdim=True).sqrt()
    return g.abs().amax((1, 2)), g.norm(dim=1) / scale.clamp_min(tiny)


@torch.no_grad()
def strengths(students: Networks, x: Tensor) -> Tensor:
    """s_k = ‖v_k‖ σ(h_k) ``[S, n]``: the fan-out norm of the standardised node."""
    return students.fan_out.norm(dim=2) * students.hidden(x)[-1].std(2)


@torch.no_grad()
def net_strengths(students: Networks, x: Tensor, near: float = NEAR) -> Tensor:
    """Strength of the boundary that a node lies on ``[S, n]``: fan-outs of all students there, added up.

    Students whose fan-in weights have the same direction are multiples of one node; Theorem 3 speaks of the
    sum of their fan-out, ‖Σ ‖w_k‖ v_k‖, which can vanish while each of them has some.

    Args:
        students: S two-layer networks.
        x: samples ``[N, d]``.
        near: nodes whose fan-in weights differ by less than this (sin of the angle) count as one.
    """
    fan_in = augmented_fan_in(students)
    size = fan_in.norm(dim=2)
    one = (misalignment(fan_in, fan_in) < near).to(fan_in)
    net = torch.bmm(one, size[..., None] * students.fan_out).norm(dim=2)
    spread = students.hidden(x)[-1].std(2) / size.clamp_min(torch.finfo(size.dtype).tiny)
    return net * spread


def without(students: Networks, leaving: Tensor) -> Networks:
    """The students with the fan-out of nodes ``leaving [S, n]`` at zero."""
    last = students.fan_out * ~leaving[:, :, None]
    return replace(students, weights=(*students.weights[:-1], last))


def precision(teachers: Networks, students: Networks) -> Tensor:
    """sin of the angle between each lowest teacher node and the student node nearest to it ``[S, m]``."""
    return misalignment(augmented_fan_in(teachers), augmented_fan_in(students)).amin(2)


@torch.no_grad()
def observers(teachers: Networks, students: Networks, x: Tensor) -> tuple[Tensor, Tensor]:
    """Who observes whom, and how well that serves.

    Returns:
        bool ``[S, m, n]``: student node k observes teacher node j; and ``[S, m]``: the largest
        α_kj = v_kᵀ v*_j among the observers of j (0 where none is positive).
    """
    found = []
    for s in range(students.count):
        mine, theirs = students.some([s]), teachers.some([s])
        found.append(
            observe(
                x,
                (theirs.fan_in[0], theirs.biases[0][0] if theirs.biases else None),
                (mine.fan_in[0], mine.biases[0][0] if mine.biases else None),
                mine.fan_out[0],
            ).observers
        )
    who = torch.stack(found)
    alpha = torch.bmm(teachers.fan_out, students.fan_out.transpose(1, 2))
    return who, torch.where(who, alpha, 0).amax(2).clamp_min(0)
