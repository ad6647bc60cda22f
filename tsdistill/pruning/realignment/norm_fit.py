"""A norm's scale and shift fitted, node by node, to what it gives in the dense model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tsdistill.models.layers import layer_kind
from tsdistill.statistics.sample_blocks import channels_first, flat, widen
from tsdistill.torch_private import parameters_of


def is_norm(module: nn.Module, x: Tensor | None = None) -> bool:
    """Whether a module normalises and then scales and shifts each node by parameters of its own.

    Args:
        module: the module.
        x: an input; with it the module is tried out: its output has to change sign with its parameters.
    """
    weight = parameters_of(module).get("weight")
    if not layer_kind.is_norm(module) or weight is None or weight.ndim != 1:
        return False
    if x is None:
        return True
    negated = {name: -p for name, p in module.named_parameters(recurse=False)}
    with torch.no_grad():
        one, other = type(module).forward(module, x), functional_call(module, negated, (x,))
    return isinstance(one, Tensor) and bool(((one + other).abs() <= 1e-3 * one.abs().amax()).all())


class Affine:
    """Sums over batches from which scale and shift follow; half of each batch checks the other.

    Args:
        module: a norm.
        dim: dimension of its output along which the nodes lie.
    """

    def __init__(self, module: nn.Module, dim: int) -> None:
        self._module, self._dim = module, dim
        self._sums: list[Tensor | None] = [None, None]

    def add(self, now: Tensor, wanted: Tensor, where: Tensor | None = None) -> None:
        """Take in one batch of outputs of the norm, as they are and as they should be, at the positions
        ``where`` (all of them without)."""
        middle = (now.shape[0] + 1) // 2
        for half, part in enumerate((slice(0, middle), slice(middle, None))):
            if not now[part].shape[0]:
                continue
            s, t = (widen(flat(channels_first(each[part], self._dim))).double() for each in (now, wanted))
            if where is not None:
                s, t = (each.index_select(2, where.to(each.device)) for each in (s, t))
            sums = torch.stack([v.sum((0, 2)) for v in (torch.ones_like(s), s, t, s * s, s * t)])
            before = self._sums[half]
            self._sums[half] = sums if before is None else before + sums

    def fit(self) -> bool:
        """Move scale and shift; whether anything moved (see `FanIn.fit`)."""
        halves = [sums for sums in self._sums if sums is not None]
        if len(halves) < 2:
            return False
        shifts = parameters_of(self._module).get("bias") is not None
        first, second = halves
        better = _gain(*_line(first, shifts), second) + _gain(*_line(second, shifts), first)
        scale, shift = _line(first + second, shifts)
        scale = torch.where(better < 0, scale, torch.ones_like(scale))
        shift = torch.where(better < 0, shift, torch.zeros_like(shift))
        weight, bias = parameters_of(self._module)["weight"], parameters_of(self._module).get("bias")
        assert weight is not None
        with torch.no_grad():
            weight.copy_(weight.double() * scale)
            if bias is not None:
                bias.copy_(bias.double() * scale + shift)
        return bool((better < 0).any())


def _line(sums: Tensor, shifts: bool) -> tuple[Tensor, Tensor]:
    """Slope and intercept of wanted over now, drawn a little towards the present line."""
    n, s, t, ss, st = sums
    if not shifts:
        ridge = 1e-3 * ss + 1e-12
        return (st + ridge) / (ss + ridge), torch.zeros_like(s)
    var, cov = ss - s * s / n, st - s * t / n
    ridge = 1e-3 * var.clamp_min(0) + 1e-12
    slope = (cov + ridge) / (var + ridge)
    return slope, (t - slope * s) / n


def _gain(slope: Tensor, shift: Tensor, sums: Tensor) -> Tensor:
    """Squared error of the line less that of leaving things as they are."""
    n, s, t, ss, st = sums
    moved = slope**2 * ss + 2 * slope * shift * s + n * shift**2 - 2 * (slope * st + shift * t)
    return moved - (ss - 2 * st)
