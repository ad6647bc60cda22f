"""Adjoints of the modules of a piecewise linear network: the map to the output, pulled back through each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from tsdistill.errors import TsdistillError

Back = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Module, its input h and V for its output -> V for its input, and what its bias adds to the output.

h is ``[B, *in]``, V ``[B, c, *out]`` before and ``[B, c, *in]`` after; what is added is ``[B, c]``.
"""

GATES = (nn.ReLU, nn.LeakyReLU)
"""Modules whose output is a layer of nodes."""


def gate_values(module: nn.Module, pre: Tensor) -> Tensor:
    """The diagonal of D at pre-activations: 1 above zero, else the slope of the other side."""
    low = module.negative_slope if isinstance(module, nn.LeakyReLU) else 0.0
    return torch.where(pre > 0, torch.ones_like(pre), low)


def pull_back(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """V before a module from V behind it, at its input ``h``, and what its bias adds to the output.

    Raises:
        TsdistillError: the module is not linear at x, or is a batch norm in training mode.
    """
    for kinds, back in _BACK:
        if isinstance(module, kinds):
            return back(module, h, v)
    known = ", ".join(kind.__name__ for kinds, _ in _BACK for kind in kinds)
    raise TsdistillError(
        f"{type(module).__name__} is not linear at a sample: the gradient rule knows {known}"
    )


def _gated(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return v * gate_values(module, h).unsqueeze(1), v.new_zeros(v.shape[:2])


def _linear(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(module, nn.Linear)
    return v @ module.weight, _bias(module.bias, v)


def _convolved(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise TsdistillError("the gradient rule knows convolutions with zero padding given in numbers")
    pulled = conv2d_input(
        (v.shape[0] * v.shape[1], *h.shape[1:]),
        module.weight,
        v.flatten(0, 1),
        module.stride,
        module.padding,
        module.dilation,
        module.groups,
    )
    return pulled.unflatten(0, v.shape[:2]), _bias(module.bias, v)


def _normalised(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    if module.training or module.running_mean is None or module.running_var is None:
        raise TsdistillError("a batch norm is linear at a sample only with fixed statistics: call .eval()")
    scale = (module.running_var + module.eps).rsqrt() * (1.0 if module.weight is None else module.weight)
    shift = -module.running_mean * scale + (0.0 if module.bias is None else module.bias)
    return v * scale.view(-1, *[1] * (h.dim() - 2)), _bias(shift, v)


def _flattened(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return v.reshape(*v.shape[:2], *h.shape[1:]), v.new_zeros(v.shape[:2])


def _pooled(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Linear at h, without bias, for each sample separately: one backward pass for each output."""
    pull = torch.func.vjp(module, h)[1]
    return torch.stack([pull(each)[0] for each in v.unbind(1)], 1), v.new_zeros(v.shape[:2])


def _kept(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    if module.training and not isinstance(module, nn.Identity):
        raise TsdistillError("dropout is the identity only when it does not train: call .eval()")
    return v, v.new_zeros(v.shape[:2])


def _bias(bias: Tensor | None, v: Tensor) -> Tensor:
    """Σ over nodes and positions of V times the node's bias, ``[B, c]``."""
    if bias is None:
        return v.new_zeros(v.shape[:2])
    return v.flatten(3).sum(3) @ bias if v.dim() > 3 else v @ bias


_BACK: tuple[tuple[tuple[type[nn.Module], ...], Back], ...] = (
    (GATES, _gated),
    ((nn.Linear,), _linear),
    ((nn.Conv2d,), _convolved),
    ((nn.BatchNorm1d, nn.BatchNorm2d), _normalised),
    ((nn.Flatten,), _flattened),
    ((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d), _pooled),
    ((nn.Dropout, nn.Identity), _kept),
)
