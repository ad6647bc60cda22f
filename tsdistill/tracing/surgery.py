"""Cutting nodes out of a copy of a model; weight norms keep their weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.plain_tensors import constants_of, hold, named_constants
from tsdistill.models.widths import sync_widths
from tsdistill.torch_private import buffers_of, parameters_of, pre_hooks_of, temporary_buffers_of
from tsdistill.tracing.graph import NodeGraph
from tsdistill.tracing.model_copy import deepcopy_model

Nodes = Sequence[int] | np.ndarray
"""Numbers of nodes of one group."""


def checked(graph: NodeGraph, removed: Mapping[str, Nodes]) -> dict[str, np.ndarray]:
    """``removed`` as sorted, distinct node numbers; groups of which nothing goes are left out.

    Raises:
        TsdistillError: a group that does not exist, a node out of range, or a group that would be empty.
    """
    result = {}
    for name, nodes in removed.items():
        group = graph.by_name.get(name)
        if group is None:
            raise TsdistillError(f"no group named {name!r} in this model; its groups: {_some(graph.widths)}")
        chosen = np.unique(np.asarray(nodes, dtype=np.int64))
        if not len(chosen):
            continue
        if chosen[0] < 0 or chosen[-1] >= group.size:
            raise TsdistillError(
                f"group {name} has nodes 0 to {group.size - 1}, not {chosen[0]} … {chosen[-1]}"
            )
        if len(chosen) == group.size:
            raise TsdistillError(f"group {name} would lose all {group.size} nodes; leave at least one")
        result[name] = chosen
    return result


def removed_mask(graph: NodeGraph, removed: Mapping[str, np.ndarray]) -> np.ndarray:
    """For every node of the graph, numbered over all groups in order: does it go?"""
    mask = np.zeros(sum(graph.widths.values()), dtype=bool)
    for name, nodes in removed.items():
        mask[graph.starts[name] + np.asarray(nodes)] = True
    return mask


def removed_coordinates(
    graph: NodeGraph, removed: Mapping[str, np.ndarray]
) -> dict[tuple[str, int], np.ndarray]:
    """``(parameter or buffer, dimension)`` -> int64, the coordinates that go with the removed nodes."""
    leaving: dict[tuple[str, int], list[np.ndarray]] = defaultdict(list)
    for name, nodes in removed.items():
        for slot in graph.by_name[name].slots:
            leaving[slot.param, slot.dim].append(slot.coords[nodes].reshape(-1))
    return {place: np.concatenate(coords) for place, coords in leaving.items()}


def remove_coordinates(
    model: nn.Module, graph: NodeGraph, removed: Mapping[str, np.ndarray]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of ``model`` without the removed nodes' coordinates, and the non-persistent buffers it changed,
    among them constants (`models.plain_tensors`), of which it makes some.

    Shape constants that modules keep as attributes are not touched, but for the widths that torch's own
    modules read off their parameters.
    """
    leaving = removed_coordinates(graph, removed)
    by_place = graph.traced.trace.constraints.by_place
    taken = {
        place: np.setdiff1d(np.arange(by_place[place].size), coords) for place, coords in leaving.items()
    }
    small, unsaved = take_coordinates(model, taken)
    rescale_lengths(model, small, leaving)
    return small, unsaved


def take_coordinates(
    model: nn.Module, taken: Mapping[tuple[str, int], np.ndarray]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of ``model`` with the coordinates ``taken`` of each ``(parameter or buffer, dimension)``, in
    that order (some may come several times), and the non-persistent buffers it changed.

    Shape constants are not touched, as in `remove_coordinates`.
    """
    tensors = _held(model)
    changed: dict[str, torch.Tensor] = {}
    for (name, dim), coords in taken.items():
        before = changed[name] if name in changed else tensors[name].detach()
        changed[name] = before.index_select(dim, torch.from_numpy(coords).to(before.device))
    replaced: dict[int, Any] = {}
    for name, new in changed.items():
        old = tensors[name]
        new = new.contiguous(memory_format=_format(old)) if old.ndim == 4 else new
        replaced[id(old)] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    constants = [name for name, tensor in named_constants(model) if id(tensor) in replaced]
    small = deepcopy_model(model, replaced)
    hold(small, constants)
    sync_widths(small)
    return small, (*_unsaved(model, replaced), *constants)


def _held(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, buffers and constants by name, under every name that they have."""
    return {
        f"{path}.{name}" if path else name: tensor
        for path, module in model.named_modules(remove_duplicate=False)
        for table in (parameters_of(module).items(), buffers_of(module).items(), constants_of(module))
        for name, tensor in table
        if tensor is not None
    }


def _unsaved(model: nn.Module, replaced: Collection[int]) -> Iterator[str]:
    for prefix, module in model.named_modules():
        for name in temporary_buffers_of(module):
            if id(buffers_of(module).get(name)) in replaced:
                yield f"{prefix}.{name}" if prefix else name


def _format(tensor: torch.Tensor) -> torch.memory_format:
    last = tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _some(names: Mapping[str, int]) -> str:
    listed = list(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")


def rescale_lengths(
    model: nn.Module, small: nn.Module, leaving: Mapping[tuple[str, int], np.ndarray]
) -> None:
    """Set the lengths of weight-normed layers of ``small``, cut out of ``model``, to those of their weights.

    w = g v / ‖v‖: where v has lost coordinates, g goes by the same factor as ‖v‖, and w stays as it was.
    """
    normed = list(_normed(model))
    if not normed:
        return
    before, after = dict(model.named_parameters()), dict(small.named_parameters())
    for length, direction, dim in normed:
        old, new = before.get(direction), after.get(direction)
        if old is None or new is None or old.shape == new.shape:
            continue
        was, now = (torch.norm_except_dim(v.detach(), 2, dim) for v in (old, new))
        gone = leaving.get((direction, dim))
        if gone is not None and was.ndim:
            stays = np.setdiff1d(np.arange(was.shape[dim]), gone)
            was = was.index_select(dim, torch.from_numpy(stays).to(was.device))
        with torch.no_grad():
            after[length].mul_((now / was).reshape(after[length].shape))


def _normed(model: nn.Module) -> Iterator[tuple[str, str, int]]:
    """``(length, direction, dimension)`` of every weight norm: names of its two parameters."""
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for hook in pre_hooks_of(module):
            if type(hook).__name__ == "WeightNorm":
                yield f"{prefix}{hook.name}_g", f"{prefix}{hook.name}_v", hook.dim
        for name, steps in getattr(module, "parametrizations", {}).items():
            if len(steps) == 1 and type(steps[0]).__name__ == "_WeightNorm":
                place = f"{prefix}parametrizations.{name}.original"
                yield f"{place}0", f"{place}1", steps[0].dim
