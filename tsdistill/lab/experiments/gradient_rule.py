"""The experiment gradient-rule: Lemma 1, the gradient as a combination of teacher and student activations."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.lab.experiment import Context, ExactSettings, Experiment
from tsdistill.lab.layers.recursive_gradient import GATES, gradient_rule, modulation, node_layers
from tsdistill.lab.results import Claim, Outcome, Table
from tsdistill.options.option_fields import option

PAPER = "arXiv 1909.13458"
_EXACT = 1e-11
"""Relative difference to autograd that counts as rounding: float64 has 2e-16, and sums of some thousand
products, of up to 50 layers, lose some digits."""


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
"""Dimensions of the trained pair's input and output; small, so that training takes seconds."""
TEACHER = (5, 6)
"""Nodes of the teacher's hidden layers."""
TIMES = 4
"""Student nodes for each teacher node: over-realised, as the theorems ask."""
BATCH, RATE = 64, 3e-3
"""Samples of a step, and Adam's learning rate until 60 % of the steps, three times its
customary 1e-3 for so small a network."""
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
    products = modulation(student, teacher, x)[0]
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
    exact = modulation(student, teacher, x)[0].beta.diagonal()
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


SAMPLES = 8
"""Samples on which a pair of MLPs is compared."""


def random_mlp(sizes: Sequence[int], act: nn.Module, bias: bool, generator: torch.Generator) -> nn.Sequential:
    """Linear layers of these sizes in float64 with ``act`` between them, Gaussian weights."""
    hidden: list[nn.Module] = []
    for low, high in pairwise(sizes[:-1]):
        hidden += [nn.Linear(low, high, bias=bias), act]
    return randomise(nn.Sequential(*hidden, nn.Linear(sizes[-2], sizes[-1], bias=bias)), generator)


def pair_convnet(
    width: int, act: nn.Module, pool: nn.Module, norm: bool, generator: torch.Generator
) -> nn.Sequential:
    """Two convolutions on 2x10x10 inputs, a pooling layer between them, and two linear layers, in float64."""
    norms = [nn.BatchNorm2d(width)] if norm else []
    model = nn.Sequential(
        nn.Conv2d(2, width, 3, padding=1),
        *norms,
        act,
        pool,
        nn.Conv2d(width, width + 1, 3, bias=False),
        act,
        nn.Flatten(),
        nn.Linear(9 * (width + 1), 5),
        act,
        nn.Linear(5, 3),
    )
    return randomise(model, generator)


def randomise(model: nn.Sequential, generator: torch.Generator) -> nn.Sequential:
    """The model in float64 and eval: weights N(0, 2/fan-in), biases N(0, 0.3²), random statistics."""
    model = model.double().eval()
    with torch.no_grad():
        for module in model:
            for value in module.parameters(recurse=False):
                scale = math.sqrt(2 / value[0].numel()) if value.dim() > 1 else 0.3
                value.copy_(scale * torch.randn(value.shape, generator=generator, dtype=torch.float64))
            if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
                assert module.running_var is not None
                module.weight.add_(1)
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.2 + torch.rand(module.num_features, generator=generator))
    return model


def autograd_gradients(student: nn.Sequential, teacher: nn.Module, x: Tensor) -> list[Tensor]:
    """−∂J/∂(pre-activation) of every layer of nodes, by autograd, for each sample's ½‖f* − f‖²."""
    pre: list[Tensor] = []
    h = x
    for module in student:
        if isinstance(module, GATES):
            if not h.requires_grad:
                h = h.detach().requires_grad_()
            pre.append(h)
        h = module(h)
    loss = (teacher(x).detach() - h).square().sum() / 2
    return [-each for each in torch.autograd.grad(loss, pre)]


def compare_with_autograd(student: nn.Sequential, teacher: nn.Sequential, x: Tensor) -> dict[str, Any]:
    """Largest difference to autograd of each layer, over its largest gradient, and that of the output.

    ``silent``: the student's output is 0 at every sample, so that the comparison says nothing.
    """
    errors = []
    for rule, wanted in zip(
        gradient_rule(student, teacher, x), autograd_gradients(student, teacher, x), strict=True
    ):
        size = float(wanted.abs().max())
        errors.append(float((rule.gradient - wanted).abs().max()) / (size or 1.0))
    output = student(x).detach()
    whole = max(
        float(
            ((layer.fan_out * layer.nodes.unsqueeze(1)).flatten(2).sum(2) + layer.constant - output)
            .abs()
            .max()
        )
        for layer in node_layers(student, x)
    )
    silent = not float(output.abs().max())
    return {"errors": errors, "output": whole / (float(output.abs().max()) or 1.0), "silent": silent}


def family_errors(depths: Sequence[int], repeats: int, slope: float, seed: int) -> list[dict[str, Any]]:
    """Errors of ``repeats`` random pairs of each kind: widths from 2 to 20, teachers at most as wide."""
    rows = []
    for name, act in (("ReLU", nn.ReLU()), (f"Leaky ReLU {slope:g}", nn.LeakyReLU(slope))):
        for depth in depths:
            for bias in (True, False):
                generator = torch.Generator().manual_seed(seed + 10 * depth + bias)
                runs = [_mlps(depth, act, bias, generator) for _ in range(repeats)]
                label = f"{depth} hidden layer{'s' * (depth > 1)}, {'biases' if bias else 'no biases'}"
                rows.append(_family(name, label, runs))
        for label, pool, norm in (
            ("ConvNet, max pooling", nn.MaxPool2d(2), False),
            ("ConvNet, mean pooling, batch norm", nn.AvgPool2d(2), True),
        ):
            generator = torch.Generator().manual_seed(seed + 1000 + norm)
            runs = [_convnets(act, pool, norm, generator) for _ in range(max(1, repeats // 4))]
            rows.append(_family(name, label, runs))
    return rows


def _mlps(depth: int, act: nn.Module, bias: bool, generator: torch.Generator) -> dict[str, Any]:
    own = torch.randint(2, 21, (depth,), generator=generator).tolist()
    other = [int(torch.randint(1, width + 1, (), generator=generator)) for width in own]
    student, teacher = (random_mlp([6, *widths, 4], act, bias, generator) for widths in (own, other))
    return compare_with_autograd(
        student, teacher, torch.randn(SAMPLES, 6, generator=generator, dtype=torch.float64)
    )


def _convnets(act: nn.Module, pool: nn.Module, norm: bool, generator: torch.Generator) -> dict[str, Any]:
    student, teacher = (pair_convnet(width, act, pool, norm, generator) for width in (4, 3))
    return compare_with_autograd(
        student, teacher, torch.randn(3, 2, 10, 10, generator=generator, dtype=torch.float64)
    )


def _family(act: str, label: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    by_layer = [max(errors) for errors in zip(*(run["errors"] for run in runs), strict=True)]
    return {
        "act": act,
        "family": label,
        "pairs": len(runs),
        "errors": by_layer,
        "largest": max(by_layer),
        "output": max(run["output"] for run in runs),
        "silent": sum(run["silent"] for run in runs),
    }
