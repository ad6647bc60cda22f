"""Roughly how strongly a block's output turns with each of its parameters, so that steps can be scaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.statistics.unfold import (
    channel_dim,
    fan_in_rows,
    has_known_rows,
    inputs_per_output,
    output_rows,
)

Scales = dict[str, Callable[[Tensor], Tensor]]
"""Parameter -> divides a gradient of it by its curvature."""

_WIDEST = 2304
_ROWS = 16384
_DAMPING = 1e-3


def kfac_preconditioner(
    module: nn.Module,
    run: Callable[[dict[str, Tensor], Tensor], Tensor],
    at: Mapping[str, Tensor],
    x: Tensor,
    generator: torch.Generator,
) -> Scales:
    """A preconditioner for the Gauss-Newton matrix ``JᵀJ`` of a block's output.

    For the weight of a linear layer or convolution that runs once it is the Kronecker product of the second
    moments of what the weight is multiplied with and of the output's derivative by what the layer gives
    (Martens and Grosse, 2015, arXiv 1503.05671, eq. 16; for convolutions Grosse and Martens, 2016, arXiv
    1602.01407), from a random projection of the output. For every other parameter it is one number.

    Args:
        module: the block, at rest.
        run: ``run(parameters, x)``, the block's output.
        at: the parameters by name.
        x: some inputs ``[N, ...]``.
        generator: of projections and positions.
    """
    layers = {
        f"{name}.weight": child
        for name, child in module.named_modules()
        if f"{name}.weight" in at
        and has_known_rows(child)
        and _outputs_first(child)
        and inputs_per_output(child)[1] <= _WIDEST
    }
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def record(call: ModuleCall) -> None:
        seen.setdefault(call.name, []).append((call.args[0].detach(), call.output))

    leaves = {name: p.detach().clone().requires_grad_() for name, p in at.items()}
    with ModuleHooks(layers, after=record), torch.enable_grad():
        y = run(leaves, x)
    once = [name for name, calls in seen.items() if len(calls) == 1]
    signs = torch.randint(0, 2, y.shape, generator=generator).to(y) * 2 - 1
    asked = [*leaves.values(), *(seen[name][0][1] for name in once)]
    slopes = torch.autograd.grad(y, asked, signs, allow_unused=True)
    sizes = {
        name: 1.0 if slope is None else float(slope.square().mean()) or 1.0
        for name, slope in zip(leaves, slopes, strict=False)
    }
    scales: Scales = {name: _by_number(size) for name, size in sizes.items()}
    for name, slope in zip(once, slopes[len(leaves) :], strict=True):
        if slope is not None:
            scales[name] = _by_layer(layers[name], seen[name][0][0], slope, sizes[name], generator)
    return scales


def _outputs_first(layer: nn.Module) -> bool:
    """Whether the first dimension of a layer's weight is that of its outputs."""
    kind = kind_of(layer)
    return kind is not None and kind.output_dim == 0


def _by_number(size: float) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient / size


def _by_layer(
    layer: nn.Module, x: Tensor, slope: Tensor, size: float, generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """``G⁻¹ V A⁻¹`` for a gradient V; A and G have a mean diagonal of 1, ``size`` is that of the product."""
    dim = channel_dim(layer)
    positions = slope[0].numel() // slope.shape[dim]
    take = min(positions, max(1, _ROWS // len(x)))
    places = torch.randperm(positions, generator=generator)[:take].to(x.device)
    rows = fan_in_rows(layer, x, places)
    groups, entries = rows.shape[0], rows.shape[2]
    turned = output_rows(slope, dim, places).reshape(rows.shape[1], groups, -1).transpose(0, 1)
    into, out = _factor(rows), _factor(turned)

    def scale(gradient: Tensor) -> Tensor:
        rows = gradient.reshape(groups, -1, entries).double()
        halfway = torch.cholesky_solve(rows, out)
        return (
            torch.cholesky_solve(halfway.transpose(1, 2), into)
            .transpose(1, 2)
            .reshape(gradient.shape)
            .to(gradient.dtype)
            / size
        )

    return scale


def _factor(rows: Tensor) -> Tensor:
    """Cholesky factor of the damped second moment of ``rows [groups, n, F]``, its mean diagonal 1."""
    moment = (rows.transpose(1, 2) @ rows).double()
    mean = moment.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-30)
    eye = torch.eye(moment.shape[-1], dtype=moment.dtype, device=moment.device)
    return torch.linalg.cholesky(moment / mean[:, None, None] + _DAMPING * eye)
