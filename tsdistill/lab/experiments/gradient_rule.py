"""The experiment gradient-rule: Lemma 1, the gradient as a combination of teacher and student activations."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.lab.experiment import Context, ExactSettings, Experiment
from tsdistill.lab.experiments.random_pairs import family_errors, random_mlp
from tsdistill.lab.layers.recursive_gradient import gradient_rule, modulation
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

PAPER = "arXiv 1909.13458"
_EXACT = 1e-11
"""Relative difference to autograd that counts as rounding of float64."""


@dataclass(frozen=True)
class GradientRule(ExactSettings):
    """Settings of gradient-rule."""

    depths: tuple[int, ...] = option(
        (1, 2, 3, 4, 6, 8), "Numbers of hidden layers of the random networks", above=0, most=50
    )
    repeats: int = option(40, "Random pairs of each kind (a quarter of them for ConvNets)", above=0)
    slope: float = option(0.1, "Slope of Leaky ReLU below zero", above=0)
    steps: int = option(20_000, "Training steps of the pair that is looked at while it learns", above=0)


def run(settings: GradientRule, context: Context) -> Outcome:
    """Compare random pairs with autograd, then measure one pair during its training."""
    context.tell("random pairs", 0, 2)
    kinds = family_errors(settings.depths, settings.repeats, settings.slope, settings.seed)
    context.tell("training", 1, 2)
    pair = train_pair(settings.steps, settings.seed)
    context.tell("done", 2, 2)
    largest = max(item["largest"] for item in kinds)
    output = max(item["output"] for item in kinds)
    pairs = sum(item["pairs"] for item in kinds)
    silent = sum(item["silent"] for item in kinds)
    first, last = pair["course"][0], pair["course"][-1]
    ratio = [
        (row[2] / row[0], end[2] / end[0]) for row, end in zip(first["layers"], last["layers"], strict=True)
    ]
    shares = ", ".join(
        f"layer {place + 1}: {high:.2f} → {low:.1e}" for place, (high, low) in enumerate(ratio)
    )
    claims = (
        Claim(
            "The gradient of a node is D (A f* − B f), for any depth, ReLU and Leaky ReLU, MLPs and "
            "ConvNets.",
            f"{PAPER}, Lemma 1",
            f"{pairs} random pairs ({silent} with a student that is 0 at every sample), {len(kinds)} kinds, "
            f"every layer: within {largest:.1e} of autograd, relative ({_EXACT:.0e} allowed)",
            largest < _EXACT,
        ),
        Claim(
            "V_l f_l is the output: the network is linear above every layer, with biases as a constant node.",
            f"{PAPER}, Lemma 1",
            f"within {output:.1e} of the output, relative ({_EXACT:.0e} allowed)",
            output < _EXACT,
        ),
        Claim(
            "E[β_kk] is the mean of (rᵀ ∂f/∂h_k)² over random r: one backward pass a vector.",
            "the definition of β; identity used for strength",
            f"root mean square deviation {pair['probe']['spread']:.2f} standard errors, largest "
            f"{pair['probe']['largest']:.1f} (5 allowed)",
            pair["probe"]["largest"] < 5,
        ),
        Claim(
            "As the gradient goes, what the teacher's nodes ask for and what the student's give cancel: "
            "A f* → B f.",
            f"{PAPER}, Lemma 1 (at zero gradient)",
            f"‖g‖ / ‖D A f*‖ from start to end of {settings.steps:,} steps: {shares} (a tenth of the "
            "start asked)",
            all(low < 0.1 * high for high, low in ratio),
        ),
    )
    rows = tuple(
        (item["act"], item["family"], item["pairs"], f"{item['largest']:.1e}", f"{item['output']:.1e}")
        for item in kinds
    )
    columns = ("activation", "networks", "pairs", "gradient, to autograd", "output")
    table = Table("Lemma 1 against autograd, largest relative difference", columns, rows)
    return Outcome("gradient-rule", {}, claims, (table,), {"families": kinds, **pair})


EXPERIMENT = Experiment(
    settings=GradientRule, quick={"depths": (1, 2, 4), "repeats": 12, "steps": 4000}, run=run
)


INPUTS, OUTPUTS = 10, 10
"""Dimensions of the trained pair's input and output."""
TEACHER = (5, 6)
"""Nodes of the teacher's hidden layers."""
TIMES = 4
"""Student nodes for each teacher node."""
BATCH, RATE = 64, 3e-3
"""Samples of a step, and Adam's learning rate until 60 % of the steps."""
CHECKS = 24
"""About how many times the pair is measured, at steps that grow geometrically."""


def train_pair(steps: int, seed: int) -> dict[str, Any]:
    """A 10-5-6-10 teacher and a student four times as wide, trained by Adam on fresh Gaussian samples."""
    generator = torch.Generator().manual_seed(seed + 7)
    act = nn.ReLU()
    teacher = random_mlp((INPUTS, *TEACHER, OUTPUTS), act, True, generator)
    student = random_mlp((INPUTS, *(TIMES * width for width in TEACHER), OUTPUTS), act, True, generator)
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
    products = modulation(student, teacher, [x])[0]
    assert products.alpha is not None
    correlation = _correlation(student[:2](x).detach(), teacher[:2](x).detach())
    best, node = correlation.max(1)
    order = sorted(range(len(best)), key=lambda k: (int(node[k]), -float(best[k])))
    return {
        "alpha": products.alpha[order].tolist(),
        "beta": products.beta[order][:, order].tolist(),
        "correlation": correlation[order].tolist(),
        "strength": products.beta.diagonal()[order].sqrt().tolist(),
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
    estimates = []
    for _ in range(draws):
        r = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        (pulled,) = torch.autograd.grad(output, hidden, r, retain_graph=True)
        estimates.append(pulled.square().mean(0))
    each = torch.stack(estimates)
    deviation = (each.mean(0) - exact) / (each.std(0) / draws**0.5).clamp_min(1e-300)
    alive = exact > 1e-12 * exact.max()
    return {
        "spread": float(deviation[alive].square().mean().sqrt()),
        "largest": float(deviation[alive].abs().max()),
    }
