"""A student that learns, seen through the gradient rule: the teacher's share, its own, and E[α], E[β]."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.lab.experiments.rule.random_pairs import mlp
from tsdistill.lab.layers.rule import gradient_rule, modulation

INPUTS, OUTPUTS = 10, 10
TEACHER = (5, 6)
TIMES = 4
BATCH = 64
RATE = 3e-3
CHECKS = 24


def trained(steps: int, seed: int) -> dict[str, Any]:
    """A 10-5-6-10 teacher and a student four times as wide, trained by Adam on fresh Gaussian samples."""
    generator = torch.Generator().manual_seed(seed + 7)
    act = nn.ReLU()
    teacher = mlp((INPUTS, *TEACHER, OUTPUTS), act, True, generator)
    student = mlp((INPUTS, *(TIMES * width for width in TEACHER), OUTPUTS), act, True, generator)
    held = torch.randn(512, INPUTS, generator=generator, dtype=torch.float64)
    start = copy.deepcopy(student)
    optimiser = torch.optim.Adam(student.parameters(), lr=RATE)
    when = sorted({round(steps ** (place / (CHECKS - 1))) for place in range(CHECKS)} | {0})
    course = []
    for step in range(steps + 1):
        if step in when:
            course.append(_shares(student, teacher, held) | {"step": step})
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 if step < 0.6 * steps else 0.1 if step < 0.85 * steps else 0.01)
        x = torch.randn(BATCH, INPUTS, generator=generator, dtype=torch.float64)
        loss = (teacher(x).detach() - student(x)).square().sum(1).mean() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    maps = [_map(model, teacher, held) for model in (start, student)]
    return {
        "course": course,
        "start": maps[0],
        "end": maps[1],
        "probe": _probe(student, teacher, held, generator),
    }


def _shares(student: nn.Sequential, teacher: nn.Sequential, x: Tensor) -> dict[str, Any]:
    """Root mean square over samples of D A f*, D B f and g, for each layer, and the loss."""
    rows = []
    for rule in gradient_rule(student, teacher, x):
        gates, left = rule.student.gates, (teacher(x) - student(x)).detach()
        pull = rule.student.fan_out
        wanted, own = (
            gates * torch.einsum("bc,bcn->bn", model(x).detach(), pull) for model in (teacher, student)
        )
        rows.append([float(each.square().sum(1).mean().sqrt()) for each in (wanted, own, rule.gradient)])
    return {"layers": rows, "loss": float(left.square().sum(1).mean() / 2)}


def _map(student: nn.Sequential, teacher: nn.Sequential, x: Tensor) -> dict[str, Any]:
    """E[α], E[β] and correlations of the lowest layer, students in the order of their best teacher node."""
    found = modulation(student, teacher, [x])[0]
    assert found.alpha is not None
    correlation = _correlation(student[:2](x).detach(), teacher[:2](x).detach())
    best, node = correlation.max(1)
    order = sorted(range(len(best)), key=lambda k: (int(node[k]), -float(best[k])))
    return {
        "alpha": found.alpha[order].tolist(),
        "beta": found.beta[order][:, order].tolist(),
        "correlation": correlation[order].tolist(),
        "strength": found.beta.diagonal()[order].sqrt().tolist(),
        "best": best[order].tolist(),
    }


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    scaled = [(each - each.mean(0)) / each.std(0, correction=0).clamp_min(1e-12) for each in (first, second)]
    return scaled[0].T @ scaled[1] / len(first)


def _probe(
    student: nn.Sequential, teacher: nn.Sequential, x: Tensor, generator: torch.Generator, draws: int = 400
) -> dict[str, float]:
    """Deviation of E[β_kk], lowest layer, from the mean of (rᵀ ∂f/∂h_k)², in standard errors."""
    exact = modulation(student, teacher, [x])[0].beta.diagonal()
    hidden = student[:2](x).detach().requires_grad_()
    output = student[2:](hidden)
    found = []
    for _ in range(draws):
        r = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        (pulled,) = torch.autograd.grad(output, hidden, r, retain_graph=True)
        found.append(pulled.square().mean(0))
    each = torch.stack(found)
    deviation = (each.mean(0) - exact) / (each.std(0) / draws**0.5).clamp_min(1e-300)
    alive = exact > 1e-12 * exact.max()
    return {
        "spread": float(deviation[alive].square().mean().sqrt()),
        "largest": float(deviation[alive].abs().max()),
    }
