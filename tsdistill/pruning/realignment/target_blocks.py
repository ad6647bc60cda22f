"""Blocks: modules of several layers that take one tensor and give one, whose layers are refitted together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.layers.computed_weights import Entries
from tsdistill.models.layers.effective_weights import parameters_behind
from tsdistill.models.layers.layer_kind import groups_of, kind_of
from tsdistill.pruning.realignment.dataflow import Flow
from tsdistill.statistics.unfold import channel_dim, has_known_rows
from tsdistill.torch_private import parameters_of
from tsdistill.tracing.attention_scale import ActivationGains

_LAYERS = 6
_MOST_LAYERS = 16


@dataclass(frozen=True, eq=False)
class Block:
    """A module whose layers are refitted together.

    Attributes:
        name: dotted name.
        layers: names of the re-aligned layers in it.
        dim: dimension of the output along which the nodes lie.
        kept: int64, the dense module's nodes that are left; ``None`` when all are.
        gain: how many times as large as there they have to be; ``None`` where they are the same.
    """

    name: str
    layers: tuple[str, ...]
    dim: int
    kept: Tensor | None
    gain: Tensor | None = None


def find_blocks(
    small: nn.Module,
    small_flow: Flow,
    dense_flow: Flow,
    layers: Sequence[str],
    kept: Mapping[tuple[str, int], np.ndarray],
    gains: ActivationGains,
) -> list[Block]:
    """Modules that hold at least two of the re-aligned layers and whose output's nodes are known.

    Where one lies in another it is the outermost that has no more than six layers, so that a gate goes with
    the block that it is part of; else the innermost. Nodes of an output are known where a layer's fan-out
    ends there or a layer reads them: the coordinates of its weight that are left are those of the output.

    Args:
        small: the small model.
        small_flow: its flow.
        dense_flow: that of the dense model.
        layers: names of the linear layers and convolutions that are re-aligned, in forward order.
        kept: ``(parameter, dimension)`` -> coordinates of the dense model that are left.
        gains: ``(weight, dimension)`` -> how many times as large an activation has to be.
    """
    modules = dict(small.named_modules())
    nodes = _nodes(modules, small_flow)
    found: list[Block] = []
    for name in sorted(small_flow.passed, key=lambda name: -name.count(".")):
        inside = tuple(layer for layer in layers if layer.startswith(f"{name}."))
        known = nodes.get(id(small_flow.passed[name]))
        if not 2 <= len(inside) <= _MOST_LAYERS or known is None or name not in dense_flow.passed:
            continue
        within = [block for block in found if block.name.startswith(f"{name}.")]
        if (within and len(inside) > _LAYERS) or not _alone(small, modules[name]):
            continue
        dim, (param, side) = known
        left = kept.get((param, side))
        widths = small_flow.passed[name].shape[dim], dense_flow.passed[name].shape[dim]
        if widths[0] != (widths[1] if left is None else len(left)):
            continue
        found = [block for block in found if block not in within]
        gain = gain_of(gains, param, side)
        found.append(Block(name, inside, dim, index_of(left, widths[1]), gain))
    return found


def output_side(name: str, module: nn.Module) -> tuple[str, int]:
    """The parameter behind the weight of the layer ``name``, and its dimension of the layer's outputs."""
    kind = kind_of(module)
    assert kind is not None
    if isinstance(module, ComputedCall) and isinstance(module.setting, Entries):
        dim = module.setting.dim_of(kind.output_dim)
        assert dim is not None
        return module.setting.source, dim
    return parameters_behind(name, module)[0], kind.output_dim


def index_of(left: np.ndarray | None, width: int) -> Tensor | None:
    """The nodes that are left of ``width``, to select by; ``None`` when all are."""
    return None if left is None or len(left) == width else torch.from_numpy(left)


def gain_of(gains: ActivationGains, param: str, dim: int) -> Tensor | None:
    """How many times as large the activations at a dimension of a weight have to be."""
    found = gains.get((param, dim))
    return None if found is None else torch.from_numpy(found)


def _nodes(modules: Mapping[str, nn.Module], flow: Flow) -> dict[int, tuple[int, tuple[str, int]]]:
    """Of the tensors that layers write and read, by the tensors' identity: the dimension of the nodes, and
    the weight and its dimension whose coordinates they are."""
    known: dict[int, tuple[int, tuple[str, int]]] = {}
    for name in flow.order:
        module = modules[name]
        if not has_known_rows(module):
            continue
        dim = channel_dim(module)
        groups, width = groups_of(module), flow.inputs[name].shape[dim]
        param, side = output_side(name, module)
        if groups == 1 or groups == width == flow.downstream[name].output.shape[dim]:
            inner = 1 - side if groups == 1 else 0
            known.setdefault(id(flow.inputs[name]), (dim, (param, inner)))
        path = flow.downstream[name]
        if path.ends is not None and path.ends.shape == path.output.shape and (groups == 1 or side == 0):
            known.setdefault(id(path.ends), (dim, (param, side)))
    return known


def _alone(model: nn.Module, block: nn.Module) -> bool:
    """Whether nothing outside the block owns one of its parameters."""
    inside = {id(p) for p in block.parameters()}
    within = set(block.modules())
    outside = (p for m in model.modules() if m not in within for p in parameters_of(m).values())
    return not any(id(p) in inside for p in outside)
