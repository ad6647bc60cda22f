"""Likeness of the lowest layer's nodes by their fan-in weights: no data, only boundaries in input space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.alignment.metrics.correlation import ratios
from tsdistill.alignment.metrics.lowest_layers import LowestLayer, lowest_layers
from tsdistill.alignment.metrics.metric_protocols import FanIn
from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.tracing.graph import Group, NodeGraph


class WeightCosine:
    """Cosine of the fan-in weights, bias included, of nodes that read the raw input.

    1 where two nodes have the same boundary, and the same side of it: this is what the theory calls aligned
    in the lowest layer (arXiv 1909.13458, theorems 2 and 4). Only there do the inputs of student and teacher
    mean the same; deeper layers read nodes of their own, so no fan-in is given for them. 0 where all of a
    node's weights are 0.
    """

    name = "weights"
    wants = "weights"

    def from_weights(self, student: FanIn, teacher: FanIn) -> Tensor | None:
        """Cosines ``[S, T]`` in [-1, 1]; ``None`` when the two read inputs or kernels of different shapes."""
        if student.weight.shape[1:] != teacher.weight.shape[1:]:
            return None
        rows, columns = (torch.cat([f.weight.flatten(1), f.bias[:, None]], 1) for f in (student, teacher))
        return ratios(rows @ columns.T, rows.square().sum(1), columns.square().sum(1))


def fan_ins(model: nn.Module, graph: NodeGraph, example_input: object) -> dict[str, FanIn]:
    """Fan-in weights of every group of ``model`` whose first writer reads the raw input, by group.

    Args:
        model: the model; it is left as it was.
        graph: its node graph.
        example_input: one input (batch 1); the model runs on it once.

    Raises:
        TsdistillError: the forward fails.
    """
    lowest = lowest_layers(model, example_input)
    fan_in_of = {group.name: fan_in(model, group, lowest) for group in graph.groups}
    return {name: fan for name, fan in fan_in_of.items() if fan is not None}


def fan_in(model: nn.Module, group: Group, lowest: Mapping[str, LowestLayer]) -> FanIn | None:
    """Fan-in weights of a group, a batch norm that directly follows its first writer folded in.

    With the norm's γ, β, mean μ and σ = sqrt(variance + ε), as they are at evaluation: ``w γ/σ`` and
    ``(b − μ) γ/σ + β``. So the boundary is that of the normalised pre-activation.

    Args:
        model: the model.
        group: one of its groups.
        lowest: what ``lowest_layers`` says of the model.

    Returns:
        ``None`` when the first writer does not read the raw input, or a node has several of its outputs.
    """
    writer = group.writers[0]
    if writer not in lowest:
        return None
    layer: Any = model.get_submodule(writer.rpartition(".")[0])
    kind = kind_of(layer)
    dim = 0 if kind is None else kind.output_dim
    slot = next((slot for slot in group.slots if slot.param == writer and slot.dim == dim), None)
    if slot is None or slot.coords.shape[1] != 1:
        return None
    index = torch.from_numpy(slot.coords[:, 0])

    def values(tensor: Tensor | None, missing: float) -> Tensor:
        return torch.full((group.size,), missing).double() if tensor is None else _wide(tensor)[index]

    weight, bias = _wide(lowest[writer].weight).movedim(dim, 0)[index], values(layer.bias, 0.0)
    followed = lowest[writer].norm
    if followed is None:
        return FanIn(weight, bias, writer)
    norm: Any = model.get_submodule(followed)
    scale = values(norm.weight, 1.0) / (values(norm.running_var, 1.0) + norm.eps).sqrt()
    bias = (bias - values(norm.running_mean, 0.0)) * scale + values(norm.bias, 0.0)
    return FanIn(weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias, f"{writer}, with {followed}")


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()
