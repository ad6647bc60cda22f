"""The closed form of the gradient, compared with Monte Carlo and autograd, and its two parts."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tsdistill.lab.experiments.population.study import PopulationGradient
from tsdistill.lab.gaussian.expected_loss import expected_loss, monte_carlo, velocity
from tsdistill.lab.gaussian.gradient_flow import gradient_flow
from tsdistill.lab.results import Claim, Outcome, Table

PAPER = "arXiv 1703.00560"
_EXACT = 1e-12
"""Relative difference to autograd that counts as rounding: float64 has 2e-16, and sums lose some digits."""
_DRAWN = 400
"""About how many coordinates of a gradient the figure shows, so that dots can be told apart."""


def study(settings: PopulationGradient) -> Outcome:
    """Checks for each number of nodes, the error by the number of samples, and the two parts by angle."""
    generator = torch.Generator().manual_seed(settings.seed)
    pairs = [_pair(count, settings.dimension, generator) for count in settings.nodes]
    checks = [_check(*pair, settings.samples, generator) for pair in pairs]
    errors = _errors(*pairs[-1], settings.samples, generator)
    split = _split()
    straight = _straight(settings.dimension, generator)
    spread = math.sqrt(sum(item["spread"] ** 2 for item in checks) / len(checks))
    worst = max(item["largest"] for item in checks)
    exact = max(max(item["autograd"], item["chain"]) for item in checks)
    loss = max(abs(item["loss_deviation"]) for item in checks)
    claims = (
        Claim(
            "The gradient has a closed form for any number of nodes, equal to the sampled one.",
            f"{PAPER}, theorem 1",
            f"{settings.samples:,} samples, {len(checks)} sizes: the difference is {spread:.2f} standard "
            "errors (root mean square; 1 is chance, 0.7 to 1.4 allowed), the largest of all coordinates "
            f"{worst:.1f} (5 allowed)",
            0.7 < spread < 1.4 and worst < 5,
        ),
        Claim(
            "It is the gradient that autograd finds.",
            f"{PAPER}, theorem 1",
            f"largest relative difference {exact:.1e} to autograd of the closed-form loss, and of autograd "
            f"of the sampled loss to the sampled gradient ({_EXACT:.0e} allowed)",
            exact < _EXACT,
        ),
        Claim(
            "The expected loss has a closed form.",
            "Cho and Saul 2009, equation 3; arXiv 1703.00560, theorem 1",
            f"at most {loss:.1f} standard errors from the sampled loss (4 allowed)",
            loss < 4,
        ),
        Claim(
            "Its linear part alone would lead one node straight to the teacher's.",
            "the talk; arXiv 1703.00560, one node",
            f"50 starts: cosine to the straight line at least 1 − {straight['bend']:.0e}, distance left "
            f"{straight['left']:.0e} of ‖w*‖ after t = 60; the whole gradient bends to a cosine of "
            f"{straight['cosine']:.2f}",
            straight["bend"] < 1e-6 and straight["left"] < 1e-5,
        ),
    )
    rows = tuple(
        (
            item["students"],
            item["teachers"],
            f"{item['linear']:.3f}",
            f"{item['nonlinear']:.3f}",
            f"{item['spread']:.2f}",
            f"{item['largest']:.1f}",
            f"{item['autograd']:.0e}",
            f"{item['loss_deviation']:+.1f}",
        )
        for item in checks
    )
    columns = (
        "student nodes",
        "teacher nodes",
        "‖linear‖",
        "‖non-linear‖",
        "deviation (std. errors)",
        "largest",
        "to autograd",
        "loss (std. errors)",
    )
    table = Table(
        f"Closed form against {settings.samples:,} samples, d = {settings.dimension}", columns, rows
    )
    return Outcome("", {}, claims, (table,), {"checks": checks, "errors": errors, "split": split})


def _pair(count: int, dimension: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` students and about half as many teachers, weights N(0, 1/d)."""
    weights = torch.randn(count + (count + 1) // 2, dimension, generator=generator, dtype=torch.float64)
    weights /= math.sqrt(dimension)
    return weights[:count], weights[count:]


def _check(students: Tensor, teachers: Tensor, samples: int, generator: torch.Generator) -> dict[str, Any]:
    parts = velocity(students, teachers)
    exact = parts.total
    drawn = monte_carlo(students, teachers, samples, generator)
    deviation = (drawn.velocity - exact) / drawn.velocity_error
    leaf = students.clone().requires_grad_()
    loss = expected_loss(leaf, teachers)
    (pulled,) = torch.autograd.grad(loss, leaf)
    few = _DRAWN // exact.numel() + 1
    return {
        "students": len(students),
        "teachers": len(teachers),
        "linear": float(parts.linear.norm()),
        "nonlinear": float(parts.nonlinear.norm()),
        "spread": float(deviation.square().mean().sqrt()),
        "largest": float(deviation.abs().max()),
        "autograd": float((pulled + exact).abs().max() / exact.abs().max()),
        "chain": _chain(students, teachers, generator),
        "loss": loss.item(),
        "loss_deviation": ((drawn.loss - loss) / drawn.loss_error).item(),
        "closed": [round(value, 6) for value in exact[:few].flatten().tolist()],
        "sampled": [round(value, 6) for value in drawn.velocity[:few].flatten().tolist()],
    }


def _chain(students: Tensor, teachers: Tensor, generator: torch.Generator) -> float:
    """Relative difference of `monte_carlo` and autograd on the very same samples."""
    state = generator.get_state()
    drawn = monte_carlo(students, teachers, 4096, generator)
    generator.set_state(state)
    x = torch.randn(4096, students.shape[1], generator=generator, dtype=students.dtype)
    leaf = students.clone().requires_grad_()
    left = (x @ teachers.T).relu().sum(1) - (x @ leaf.T).relu().sum(1)
    (pulled,) = torch.autograd.grad(left.square().mean() / 2, leaf)
    return float((pulled + drawn.velocity).abs().max() / pulled.abs().max())


def _errors(students: Tensor, teachers: Tensor, samples: int, generator: torch.Generator) -> dict[str, Any]:
    """Relative error ‖sampled − closed‖/‖closed‖ of Monte-Carlo by number of samples."""
    exact = velocity(students, teachers).total
    counts = [round(1000 * (samples / 1000) ** (step / 6)) for step in range(7)]
    relative = []
    for count in counts:
        drawn = monte_carlo(students, teachers, count, generator)
        relative.append(float((drawn.velocity - exact).norm() / exact.norm()))
    return {"samples": counts, "relative": relative, "students": len(students)}


def _split() -> dict[str, list[float]]:
    """Sizes of the two parts for one node of the teacher's norm, by its angle to the teacher's."""
    angle = torch.linspace(0, math.pi, 61, dtype=torch.float64)
    students = torch.stack([angle.cos(), angle.sin()], -1).unsqueeze(1)
    parts = velocity(students, students.new_tensor([[1.0, 0.0]]))
    return {
        "angle": angle.tolist(),
        "linear": parts.linear.norm(dim=-1)[:, 0].tolist(),
        "nonlinear": parts.nonlinear.norm(dim=-1)[:, 0].tolist(),
        "total": parts.total.norm(dim=-1)[:, 0].tolist(),
    }


def _straight(dimension: int, generator: torch.Generator) -> dict[str, float]:
    start = torch.randn(50, 1, dimension, generator=generator, dtype=torch.float64)
    goal = torch.zeros(1, dimension, dtype=torch.float64)
    goal[0, 0] = 1
    times = [1.0, 60.0]
    alone, whole = (gradient_flow(start, goal, times, linear=linear) for linear in (True, False))
    cosine = [torch.cosine_similarity(path[0] - start, goal - start, dim=-1) for path in (alone, whole)]
    return {
        "bend": float(1 - cosine[0].min()),
        "left": float((alone[-1] - goal).norm(dim=-1).max()),
        "cosine": float(cosine[1].min()),
    }
