"""The recursive gradient rule (Lemma 1 of arXiv 1909.13458) for plain networks of any depth.

The map V from a layer to the output is pulled back through one module after the other (`pull_back`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input

from tsdistill.errors import TsdistillError


@dataclass(frozen=True)
class Layer:
    """One layer of a network at some samples. B: samples, c: outputs, *s: nodes, and positions in maps.

    Attributes:
        name: of the module whose output the layer is.
        nodes: f_l(x), ``[B, *s]``.
        gates: the diagonal of D_l(x), ``[B, *s]``.
        fan_out: V_l(x), the map from the layer to the output that is in force at x, ``[B, c, *s]``.
        constant: contribution of the biases above the layer to the output, ``[B, c]``: the column of V_l of
            the constant node, so that f(x) = V_l f_l + constant.
    """

    name: str
    nodes: Tensor
    gates: Tensor
    fan_out: Tensor
    constant: Tensor


@dataclass(frozen=True)
class Rule:
    """Lemma 1 for one layer: g_l(x) = D_l(x) [A_l(x) f*_l(x) − B_l(x) f_l(x)].

    The last node of the teacher's and of the student's f is the constant 1 that carries the biases.

    Attributes:
        student: the layer of the student.
        teacher: the layer of the teacher.
    """

    student: Layer
    teacher: Layer

    @property
    def a(self) -> Tensor:
        """A_l = V_lᵀ V*_l, ``[B, n, m + 1]``; maps are flattened."""
        return _flat(self.student).mT @ _with_constant(self.teacher)

    @property
    def b(self) -> Tensor:
        """B_l = V_lᵀ V_l, ``[B, n, n + 1]``; maps are flattened."""
        return _flat(self.student).mT @ _with_constant(self.student)

    @property
    def gradient(self) -> Tensor:
        """g_l = −∂J/∂(pre-activation) by the rule, ``[B, *s]``, J = ½‖f*(x) − f(x)‖² of each sample."""
        pulled = self.a @ _nodes(self.teacher) - self.b @ _nodes(self.student)
        return self.student.gates * pulled[..., 0].view_as(self.student.gates)


def node_layers(model: nn.Module, x: Tensor) -> list[Layer]:
    """Nodes, gates and V of every ReLU or Leaky ReLU layer of a plain network, the lowest first.

    V_L = I, V_{l−1} = V_l D_l W_l. Source: arXiv 1909.13458, Lemma 1.

    Args:
        model: an ``nn.Sequential`` (nests too) of linear layers, convolutions, ReLU or Leaky ReLU, batch
            norms that do not train, pooling and flatten.
        x: samples ``[B, ...]``.

    Raises:
        TsdistillError: a module is not linear at a sample, or there is no ReLU or Leaky ReLU layer.
    """
    with torch.no_grad():
        modules = list(_plain(model))
        inputs = [x]
        for _, module in modules:
            inputs.append(module(inputs[-1]).clone())
        output = inputs[-1].flatten(1)
        v = torch.eye(output.shape[1], dtype=x.dtype, device=x.device)
        v = v.expand(len(x), -1, -1).reshape(len(x), output.shape[1], *inputs[-1].shape[1:])
        constant = torch.zeros_like(output)
        result = []
        for place in range(len(modules) - 1, -1, -1):
            name, module = modules[place]
            if isinstance(module, GATES):
                gates = gate_values(module, inputs[place])
                result.append(Layer(name, inputs[place] * gates, gates, v, constant))
            v, added = pull_back(module, inputs[place], v)
            constant = constant + added
    if not result:
        raise TsdistillError("the gradient rule needs at least one nn.ReLU or nn.LeakyReLU in the network")
    return result[::-1]


def gradient_rule(student: nn.Module, teacher: nn.Module, x: Tensor) -> list[Rule]:
    """Lemma 1 for every layer of a pair, the lowest first.

    Source: arXiv 1909.13458, Lemma 1, with biases folded in by a constant node.

    Args:
        student: a plain network as in `node_layers`.
        teacher: a network with the same number of hidden layers and outputs, of any widths.
        x: samples ``[B, ...]``.

    Raises:
        TsdistillError: the two differ in depth or outputs, or hold a module that is not linear at a sample.
    """
    own, other = node_layers(student, x), node_layers(teacher, x)
    if len(own) != len(other):
        raise TsdistillError(
            f"the student has {len(own)} layers of nodes, the teacher {len(other)}: give both the same"
        )
    if own[0].constant.shape != other[0].constant.shape:
        sizes = own[0].constant.shape[1], other[0].constant.shape[1]
        raise TsdistillError(
            f"the student has {sizes[0]} outputs, the teacher {sizes[1]}: give both the same"
        )
    return [Rule(student_sums, teacher_sums) for student_sums, teacher_sums in zip(own, other, strict=True)]


@dataclass(frozen=True)
class Modulation:
    """Top-down modulation of one layer, averaged over samples.

    Attributes:
        name: of the student's layer.
        alpha: E[α_kj] = E[v_kᵀ v*_j], ``[n, m]``; for channels summed over positions that both have, ``None``
            where the maps differ in size.
        beta: E[β_kk'] = E[v_kᵀ v_k'], ``[n, n]``, summed over positions likewise.
    """

    name: str
    alpha: Tensor | None
    beta: Tensor


def modulation(student: nn.Module, teacher: nn.Module, x: Tensor) -> list[Modulation]:
    """E[α] and E[β] of every layer over samples, in float64, the lowest layer first.

    Args:
        student: as in `gradient_rule`.
        teacher: as in `gradient_rule`.
        x: samples ``[B, ...]``.

    Raises:
        TsdistillError: as in `gradient_rule`.
    """
    result = []
    for rule in gradient_rule(student, teacher, x):
        own, other = _by_position(rule.student), _by_position(rule.teacher)
        alpha = _mean_product(own, other) if own.shape[3] == other.shape[3] else None
        result.append(Modulation(rule.student.name, alpha, _mean_product(own, own)))
    return result


def _by_position(layer: Layer) -> Tensor:
    """V in float64, ``[B, c, nodes, positions]``."""
    v = layer.fan_out.double()
    return v.flatten(3) if v.dim() > 3 else v.unsqueeze(3)


def _mean_product(first: Tensor, second: Tensor) -> Tensor:
    return torch.einsum("bckp,bcjp->kj", first, second) / len(first)


def _flat(layer: Layer) -> Tensor:
    return layer.fan_out.flatten(2)


def _with_constant(layer: Layer) -> Tensor:
    return torch.cat([_flat(layer), layer.constant.unsqueeze(2)], 2)


def _nodes(layer: Layer) -> Tensor:
    flat = layer.nodes.flatten(1)
    return torch.cat([flat, flat.new_ones(len(flat), 1)], 1).unsqueeze(2)


def _plain(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules in forward order; nested nn.Sequential are unpacked."""
    if isinstance(model, nn.Sequential):
        for place, module in enumerate(model):
            yield from _plain(module, f"{name}.{place}" if name else str(place))
    else:
        yield name, model


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


def _linear(module: nn.Module, _: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
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


def _flattened(_: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return v.reshape(*v.shape[:2], *h.shape[1:]), v.new_zeros(v.shape[:2])


def _pooled(module: nn.Module, h: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Linear at h, without bias, for each sample separately: one backward pass for each output."""
    pull = torch.func.vjp(module, h)[1]
    return torch.stack([pull(each)[0] for each in v.unbind(1)], 1), v.new_zeros(v.shape[:2])


def _kept(module: nn.Module, _: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
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
