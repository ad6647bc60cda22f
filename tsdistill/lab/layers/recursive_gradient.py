"""The recursive gradient rule (Lemma 1 of arXiv 1909.13458) for plain networks of any depth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.lab.layers.adjoints import GATES, gate_values, pull_back


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
        beta_teacher: the same of the teacher, ``[m, m]``.
    """

    name: str
    alpha: Tensor | None
    beta: Tensor
    beta_teacher: Tensor


def modulation(student: nn.Module, teacher: nn.Module, batches: Iterable[Tensor]) -> list[Modulation]:
    """E[α] and E[β] of every layer, accumulated over batches in float64, the lowest layer first.

    Args:
        student: as in `gradient_rule`.
        teacher: as in `gradient_rule`.
        batches: samples ``[B, ...]`` each.

    Raises:
        TsdistillError: no samples, or as in `gradient_rule`.
    """
    count, names = 0, []
    alpha: list[Tensor | None] = []
    beta: list[Tensor] = []
    beta_teacher: list[Tensor] = []
    for x in batches:
        rules = gradient_rule(student, teacher, x)
        if not count:
            names = [rule.student.name for rule in rules]
            alpha, beta, beta_teacher = _sums(rules)
        else:
            sums = _sums(rules)
            alpha = [
                None if old is None or new is None else old + new
                for old, new in zip(alpha, sums[0], strict=True)
            ]
            beta = [old + new for old, new in zip(beta, sums[1], strict=True)]
            beta_teacher = [old + new for old, new in zip(beta_teacher, sums[2], strict=True)]
        count += len(x)
    if not count:
        raise TsdistillError("there are no samples to average over; give at least one batch")
    rows = zip(names, alpha, beta, beta_teacher, strict=True)
    return [
        Modulation(name, None if first is None else first / count, own / count, other / count)
        for name, first, own, other in rows
    ]


def _sums(rules: list[Rule]) -> tuple[list[Tensor | None], list[Tensor], list[Tensor]]:
    """Σ over samples and positions of α, β and the teacher's β, for each layer."""
    pairs = [(_by_position(rule.student), _by_position(rule.teacher)) for rule in rules]
    return (
        [_summed(own, other) if own.shape[3] == other.shape[3] else None for own, other in pairs],
        [_summed(own, own) for own, _ in pairs],
        [_summed(other, other) for _, other in pairs],
    )


def _by_position(layer: Layer) -> Tensor:
    """V in float64, ``[B, c, nodes, positions]``."""
    v = layer.fan_out.double()
    return v.flatten(3) if v.dim() > 3 else v.unsqueeze(3)


def _summed(first: Tensor, second: Tensor) -> Tensor:
    return torch.einsum("bckp,bcjp->kj", first, second)


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
