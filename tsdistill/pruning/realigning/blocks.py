"""Blocks: modules of several layers that take one tensor and give one, whose layers are refitted together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.alignment.observing.rows import channel_dim, fits
from tsdistill.pruning.realigning.downstream import Flow

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
    """

    name: str
    layers: tuple[str, ...]
    dim: int
    kept: Tensor | None


def find_blocks(
    small: nn.Module,
    mine: Flow,
    theirs: Flow,
    layers: Sequence[str],
    kept: Mapping[tuple[str, int], np.ndarray],
) -> list[Block]:
    """Modules that hold at least two of the re-aligned layers and whose output's nodes are known.

    Where one lies in another it is the outermost that has no more than six layers, so that a gate goes with
    the block that it is part of; else the innermost. Nodes of an output are known where a layer's fan-out
    ends there or a layer reads them: the coordinates of its weight that are left are those of the output.

    Args:
        small: the small model.
        mine: its flow.
        theirs: that of the dense model.
        layers: names of the linear layers and convolutions that are re-aligned, in forward order.
        kept: ``(parameter, dimension)`` -> coordinates of the dense model that are left.
    """
    modules = dict(small.named_modules())
    nodes = _nodes(modules, mine, kept)
    found: list[Block] = []
    for name in sorted(mine.passed, key=lambda name: -name.count(".")):
        inside = tuple(layer for layer in layers if layer.startswith(f"{name}."))
        known = nodes.get(id(mine.passed[name]))
        if not 2 <= len(inside) <= _MOST_LAYERS or known is None or name not in theirs.passed:
            continue
        within = [block for block in found if block.name.startswith(f"{name}.")]
        if (within and len(inside) > _LAYERS) or not _alone(small, modules[name]):
            continue
        dim, left = known
        widths = mine.passed[name].shape[dim], theirs.passed[name].shape[dim]
        if widths[0] != (widths[1] if left is None else len(left)):
            continue
        found = [block for block in found if block not in within]
        found.append(Block(name, inside, dim, index_of(left, widths[1])))
    return found


def index_of(left: np.ndarray | None, width: int) -> Tensor | None:
    """The nodes that are left of ``width``, to select by; ``None`` when all are."""
    return None if left is None or len(left) == width else torch.from_numpy(left)


def _nodes(
    modules: Mapping[str, nn.Module], flow: Flow, kept: Mapping[tuple[str, int], np.ndarray]
) -> dict[int, tuple[int, np.ndarray | None]]:
    """Dimension and coordinates left of the tensors that layers write and read, by the tensors' identity."""
    known: dict[int, tuple[int, np.ndarray | None]] = {}
    for name in flow.order:
        module = modules[name]
        if not fits(module):
            continue
        dim = channel_dim(module)
        groups, width = getattr(module, "groups", 1), flow.inputs[name].shape[dim]
        if groups == 1 or groups == width == flow.downstream[name].output.shape[dim]:
            side = 1 if groups == 1 else 0
            known.setdefault(id(flow.inputs[name]), (dim, kept.get((f"{name}.weight", side))))
        path = flow.downstream[name]
        if path.ends is not None and path.ends.shape == path.output.shape:
            known.setdefault(id(path.ends), (dim, kept.get((f"{name}.weight", 0))))
    return known


def _alone(model: nn.Module, block: nn.Module) -> bool:
    """Whether nothing outside the block owns one of its parameters."""
    inside = {id(p) for p in block.parameters()}
    within = set(block.modules())
    outside = (p for m in model.modules() if m not in within for p in m._parameters.values() if p is not None)
    return not any(id(p) in inside for p in outside)
