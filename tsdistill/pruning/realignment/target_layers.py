"""Which layers are re-aligned, and the operations on their outputs in both models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.layers.effective_weights import effective_weight, shared_parameters
from tsdistill.models.layers.layer_kind import groups_of, kind_of
from tsdistill.pruning.realignment.dataflow import PostOps, flow
from tsdistill.pruning.realignment.norm_fit import is_norm
from tsdistill.pruning.realignment.target_blocks import Block, find_blocks, gain_of, index_of, output_side
from tsdistill.statistics.unfold import channel_dim, has_known_rows, has_rows, inputs_per_output, output_count
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
        param, side = (f"{name}.weight", 0) if norm else output_side(name, module)
        left = kept.get((param, side))
        if dim is None or output.ndim < 2 or output.shape[dim] != width:  # without a batch: a constant
            continue
        sides = _alike(small_flow.downstream[name], dense_flow.downstream[name])
        index = index_of(left, dense_flow.downstream[name].output.shape[dim])
        gain = gain_of(gains, param, side)
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
    if isinstance(module, ComputedCall) and module.setting.dim_of(kind.output_dim) is None:
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
