"""Random pairs of networks on which the gradient rule is compared with autograd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.lab.layers.adjoints import GATES
from tsdistill.lab.layers.recursive_gradient import gradient_rule, node_layers

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
