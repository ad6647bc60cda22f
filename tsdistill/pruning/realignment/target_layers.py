"""Which layers are re-aligned, and the operations on their outputs in both models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.layers.computed_weights import Entries
from tsdistill.models.layers.effective_weights import effective_weight, parameters_behind, shared_parameters
from tsdistill.models.layers.layer_kind import groups_of, kind_of
from tsdistill.pruning.realignment.dataflow import Flow, PostOps, flow
from tsdistill.pruning.realignment.norm_fit import is_norm
from tsdistill.statistics.unfold import channel_dim, has_known_rows, has_rows, inputs_per_output, output_count
from tsdistill.torch_private import parameters_of
from tsdistill.tracing.attention_scale import ActivationGains

WIDEST = 8192
"""Entries of the input beyond which a layer's fan-in is not refitted: its Gram matrix would be too large."""


@dataclass(frozen=True, eq=False)
class TargetLayer:
    """A layer that is re-aligned.

    Attributes:
        name: dotted name.
        norm: whether it is a norm, whose scale and shift are fitted; otherwise its weight is.
        dim: dimension of the output along which the nodes lie.
        kept: int64 ``[O]``, the dense layer's nodes that are left; ``None`` when all are.
        gain: ``[O]``, how many times as large as there they have to be; ``None`` where they are the same.
        small_ops: operations on its output in the small model.
        dense_ops: the same of the dense model, of the same form.
    """

    name: str
    norm: bool
    dim: int
    kept: Tensor | None
    gain: Tensor | None
    small_ops: PostOps
    dense_ops: PostOps


def find_targets(
    dense: nn.Module,
    small: nn.Module,
    kept: Mapping[tuple[str, int], np.ndarray],
    gains: ActivationGains,
    x: Any,
) -> tuple[list[TargetLayer], list[Block]]:
    """The layers to re-align, in forward order: those that run once in both models, on weights of their own.

    With them come the blocks that such layers make up.

    Args:
        dense: the dense model, at rest.
        small: the small one, at rest.
        kept: ``(parameter, dimension)`` -> coordinates of the dense model that are left.
        gains: ``(weight, dimension)`` -> how many times as large an activation has to be.
        x: a small batch.
    """
    shared = shared_parameters(small)
    modules = dict(small.named_modules())
    wanted = [name for name, m in modules.items() if name and _own(m, shared) and (_moves(m) or is_norm(m))]
    small_flow, dense_flow = flow(small, wanted, x), flow(dense, wanted, x)
    chained = {
        id(call.args[1])
        for name in small_flow.order
        if has_known_rows(modules[name])
        for call in small_flow.downstream[name].affine
        if call.name == "batch_norm"
    }
    targets = []
    for name in small_flow.order:
        module = modules[name]
        if name not in dense_flow.downstream:
            continue
        norm = not has_known_rows(module)
        if norm and (
            id(getattr(module, "running_mean", None)) in chained
            or not is_norm(module, small_flow.inputs[name])
        ):
            continue
        output = small_flow.downstream[name].output
        if not norm and (
            inputs_per_output(module)[1] > WIDEST or not has_rows(module, small_flow.inputs[name], output)
        ):
            continue
        width = _norm_width(module) if norm else output_count(module)
        dim = _norm_dim(module, output, width) if norm else channel_dim(module)
        if norm:
            left, gain = kept.get((f"{name}.weight", 0)), gain_of(gains, f"{name}.weight", 0)
        else:
            outputs, dense_outputs = output_side(name, module), output_side(name, dense.get_submodule(name))
            left, gain = _outputs_left(outputs, dense_outputs, kept), _gain_at(outputs, gains)
        if dim is None or output.ndim < 2 or output.shape[dim] != width:  # without a batch: a constant
            continue
        sides = _alike(small_flow.downstream[name], dense_flow.downstream[name])
        index = index_of(left, dense_flow.downstream[name].output.shape[dim])
        targets.append(TargetLayer(name, norm, dim, index, gain, *sides))
    layers = [target.name for target in targets if not target.norm]
    return targets, find_blocks(small, small_flow, dense_flow, layers, kept, gains)


def _own(module: nn.Module, shared: set[int]) -> bool:
    """Whether the weight of a module is its own, computed from parameters that no other module has."""
    weight = effective_weight(module)
    if weight is None or not weight.sources:
        return False
    sources = [module.get_parameter(source) for source in weight.sources]
    return all(id(p) not in shared and p.is_floating_point() for p in sources)


def _moves(module: nn.Module) -> bool:
    """Whether a layer's weight can be fitted: its rows are known, it can be written, and its outputs are
    coordinates of its parameter (those of a transposed convolution in groups are not)."""
    weight, kind = effective_weight(module), kind_of(module)
    if weight is None or kind is None or not has_known_rows(module) or not weight.writable():
        return False
    if isinstance(module, ComputedCall) and module.setting.side_of(kind.output_dim) is None:
        return False
    return not kind.output_dim or groups_of(module) == 1


def _norm_width(module: nn.Module) -> int:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return len(weight)


def _norm_dim(module: nn.Module, output: Tensor, width: int) -> int | None:
    last = type(module).forward is nn.LayerNorm.forward or output.ndim == 2
    return next((dim for dim in ((-1, 1) if last else (1, -1)) if output.shape[dim] == width), None)


def _alike(small_ops: PostOps, dense_ops: PostOps) -> tuple[PostOps, PostOps]:
    """Both as far as they have the same form."""
    if [call.name for call in small_ops.affine] != [call.name for call in dense_ops.affine]:
        return PostOps(small_ops.output), PostOps(dense_ops.output)
    if (small_ops.residual is None) != (dense_ops.residual is None) or (small_ops.activation is None) != (
        dense_ops.activation is None
    ):
        return replace(small_ops, residual=None, activation=None), replace(
            dense_ops, residual=None, activation=None
        )
    return small_ops, dense_ops


_LAYERS = 6
"""Layers up to which the outermost block is taken, so that a gate goes with the residual block that it is
part of."""


_MOST_LAYERS = 16
"""Layers of a block at most: all its activations and derivatives are held at once."""


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
    blocks: list[Block] = []
    for name in sorted(small_flow.passed, key=lambda name: -name.count(".")):
        inside = tuple(layer for layer in layers if layer.startswith(f"{name}."))
        known = nodes.get(id(small_flow.passed[name]))
        if not 2 <= len(inside) <= _MOST_LAYERS or known is None or name not in dense_flow.passed:
            continue
        within = [block for block in blocks if block.name.startswith(f"{name}.")]
        if (within and len(inside) > _LAYERS) or not _alone(small, modules[name]):
            continue
        dim, (param, side) = known
        left = kept.get((param, side))
        widths = small_flow.passed[name].shape[dim], dense_flow.passed[name].shape[dim]
        if widths[0] != (widths[1] if left is None else len(left)):
            continue
        blocks = [block for block in blocks if block not in within]
        gain = gain_of(gains, param, side)
        blocks.append(Block(name, inside, dim, index_of(left, widths[1]), gain))
    return blocks


@dataclass(frozen=True, eq=False)
class OutputSide:
    """Where the outputs of a layer lie in the parameter behind its weight.

    Attributes:
        param: name of the parameter.
        dim: its dimension.
        coords: int64 ``[O]``, coordinates there; ``None`` where they are all, in order.
    """

    param: str
    dim: int
    coords: np.ndarray | None = None


def output_side(name: str, module: nn.Module) -> OutputSide:
    """Where the outputs of the layer ``name`` lie."""
    kind = kind_of(module)
    assert kind is not None
    if not isinstance(module, ComputedCall) or not isinstance(module.setting, Entries):
        return OutputSide(parameters_behind(name, module)[0], kind.output_dim)
    side = module.setting.side_of(kind.output_dim)
    assert side is not None
    dim, coords = side
    whole = np.array_equal(coords, np.arange(module.setting.held[dim]))
    return OutputSide(module.setting.source, dim, None if whole else coords)


def _outputs_left(
    small: OutputSide, dense: OutputSide, kept: Mapping[tuple[str, int], np.ndarray]
) -> np.ndarray | None:
    """Which of the dense layer's outputs the small layer's are, int64 ``[O]``."""
    left = kept.get((small.param, small.dim))
    if left is not None and small.coords is not None:
        left = left[small.coords]
    if left is None or dense.coords is None:
        return left
    order = np.argsort(dense.coords)
    places: np.ndarray = order[np.searchsorted(dense.coords[order], left)]
    return places


def _gain_at(side: OutputSide, gains: ActivationGains) -> Tensor | None:
    gain = gain_of(gains, side.param, side.dim)
    return gain if gain is None or side.coords is None else gain[side.coords]


def index_of(left: np.ndarray | None, width: int) -> Tensor | None:
    """The nodes that are left of ``width``, to select by; ``None`` when all are."""
    return None if left is None or len(left) == width else torch.from_numpy(left)


def gain_of(gains: ActivationGains, param: str, dim: int) -> Tensor | None:
    """How many times as large the activations at a dimension of a weight have to be."""
    gain = gains.get((param, dim))
    return None if gain is None else torch.from_numpy(gain)


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
        place = output_side(name, module)
        if place.coords is not None:
            continue
        param, side = place.param, place.dim
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
