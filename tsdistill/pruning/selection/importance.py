"""Selection criteria: what losing each node of a group costs, and in which order nodes leave by it.

A criterion is a callable ``importance(report, group) -> costs [nodes]``. One whose costs depend on what has
left before (the toolkit's own) has a method ``orders`` in its place. The functions here give a criterion what
it looks at: the weights that make a group, those that read it, and the inputs of the layers that do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill import plugins
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import TsdistillError
from tsdistill.plugins import NamedObject, name_of
from tsdistill.pruning.selection.pruning_order import PruningOrder
from tsdistill.tracing.graph import Group

KIND = "importance"

_Criterion = TypeVar("_Criterion")


class Importance(Protocol):
    """What ``register_importance`` takes."""

    def __call__(self, report: AlignmentReport, group: Group) -> Tensor | np.ndarray:
        """What losing each node costs, ``[nodes]`` (``group.size``), in any unit that is one for all groups.

        Nodes with the lowest cost for what they save leave first, over all groups; with an attribute
        ``ranks_only = True`` (`ranks_only` sets it) those with the lowest cost, whatever they save: half a
        norm is no loss that half the MACs could outweigh, and divided by what a node saves such figures empty
        the widest groups. ``report`` is the analysis of the present model (`observed_model` is the model); it
        is made anew in every round.
        """
        ...


@runtime_checkable
class OrderedImportance(Protocol):
    """A criterion whose costs depend on which nodes have left before."""

    def orders(
        self,
        report: AlignmentReport,
        floors: Mapping[str, int],
        savings: Mapping[str, float],
        *,
        keep_strong: bool,
    ) -> list[PruningOrder]:
        """The nodes of every observed group in the order in which they leave, with the cost of each.

        Args:
            report: the analysis.
            floors: nodes that stay in each group.
            savings: what removing one node of each group saves.
            keep_strong: whether teacher nodes weigh by strength.
        """
        ...


def importance_orders(
    importance: str | Importance,
    report: AlignmentReport,
    floors: Mapping[str, int],
    savings: Mapping[str, float],
    *,
    keep_strong: bool,
) -> list[PruningOrder]:
    """The orders in which nodes leave by a criterion, see `OrderedImportance.orders`.

    Args:
        importance: a criterion, or the name of one that is registered.

    Raises:
        TsdistillError: there is no such criterion, it raises, or its costs are not one finite number a node;
            names the criterion and its plugin.
    """
    name = plugins.name_of(importance)
    criterion = plugins.get(KIND, name)
    if isinstance(criterion, OrderedImportance):
        return criterion.orders(report, floors, savings, keep_strong=keep_strong)
    result = []
    for described in report.groups:
        if described.observed:
            group = report.graph.by_name[described.name]
            costs = _costs(name, criterion, report, group)
            if getattr(criterion, "ranks_only", False):
                costs = costs * savings[group.name]
            result.append(_order(report, group, floors[group.name], costs))
    return result


def _order(report: AlignmentReport, group: Group, floor: int, costs: np.ndarray) -> PruningOrder:
    nodes = np.argsort(costs, kind="stable")[: max(0, group.size - floor)]
    owner = np.zeros(len(nodes), dtype=np.int64)
    return PruningOrder((group.name,), owner, nodes, costs[nodes], report.by_name[group.name].free[nodes])


def _costs(name: str, criterion: Importance, report: AlignmentReport, group: Group) -> np.ndarray:
    where = f"the importance {name} ({plugins.origin(KIND, name)})"
    try:
        costs = torch.as_tensor(criterion(report, group)).detach().double().cpu().numpy()
    except TsdistillError:
        raise
    except Exception as error:  # a plugin may raise anything
        raise TsdistillError(f"{where} fails for {group.name}: {type(error).__name__}: {error}") from error
    if costs.shape != (group.size,) or not np.isfinite(costs).all():
        what = "costs that are not finite" if costs.shape == (group.size,) else f"a shape {costs.shape}"
        raise TsdistillError(
            f"{where} gives {what} for {group.name}; a criterion gives one finite number for each of its "
            f"{group.size} nodes"
        )
    return costs


def observed_model(report: AlignmentReport) -> nn.Module:
    """The model that a report is of; its nodes are the report's.

    Raises:
        TsdistillError: the report was read from a file.
    """
    model = report.statistics.model
    if model is None:
        raise TsdistillError("this report has no model with it; analyse the model again")
    return model


def fan_in(report: AlignmentReport, group: Group) -> Tensor:
    """The weights that make a group's nodes, ``[nodes, weights]``: rows of every layer that writes it."""
    readers = {(reader.param, reader.dim) for reader in group.readers}
    written = [slot for slot in group.slots if slot.param in group.writers]
    own = [slot for slot in written if (slot.param, slot.dim) not in readers] or written
    return torch.cat([_rows(report, slot.param, slot.dim, slot.coords).flatten(1) for slot in own], 1)


def fan_out(report: AlignmentReport, group: Group) -> list[tuple[Tensor, Tensor]]:
    """What reads a group: per layer its weights ``[nodes, features, weights]``, and the root mean square of
    its input at these features, ``[nodes, features]`` or, where they are shared, ``[nodes, 1]``."""
    readers = []
    for reading in report.statistics.sites.readings[group.name]:
        covariance = report.statistics.observed.covariances.get(reading.site)
        slots = [s for s in group.slots if (s.param, s.dim) == (reading.reader.param, reading.reader.dim)]
        if covariance is None or not slots:
            continue
        weights = _rows(report, slots[0].param, slots[0].dim, slots[0].coords).flatten(2)
        scale = torch.as_tensor(np.sqrt(covariance.var + covariance.mean**2))[reading.features]
        if scale.shape[1] != weights.shape[1]:
            scale = scale.square().mean(1, keepdim=True).sqrt()
        readers.append((weights, scale.to(weights)))
    return readers


def _rows(report: AlignmentReport, param: str, dim: int, coords: np.ndarray) -> Tensor:
    """A parameter by the nodes of a group: ``[nodes, coordinates, ...]``."""
    tensor: Any = observed_model(report).get_parameter(param).detach().double().movedim(dim, 0)
    return tensor[torch.as_tensor(coords, device=tensor.device)]


def in_parts_of_mean(scores: Tensor) -> Tensor:
    """Scores in parts of their mean, where those of different groups have no common unit."""
    return scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)


def ranks_only(criterion: _Criterion) -> _Criterion:
    """Mark a criterion whose figures rank nodes and are no losses, so that they do not add up."""
    criterion.ranks_only = True  # type: ignore[attr-defined]
    return criterion


_Question = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, float], ...], bool, object]


_LAST: WeakKeyDictionary[AlignmentReport, tuple[_Question, list[PruningOrder]]] = WeakKeyDictionary()


def scored(
    report: AlignmentReport,
    floors: Mapping[str, int],
    savings: Mapping[str, float],
    *,
    keep_strong: bool,
    importance: str | Importance,
) -> list[PruningOrder]:
    """``importance_orders``, or what it answered when it was last asked the same of this report."""
    question = (tuple(floors.items()), tuple(savings.items()), keep_strong, _identity(importance))
    known = _LAST.get(report)
    if known is None or known[0] != question:
        orders = importance_orders(importance, report, floors, savings, keep_strong=keep_strong)
        known = _LAST[report] = (question, orders)
    return list(known[1])


def _identity(importance: str | Importance) -> object:
    """What two questions have to have in common: the name of a criterion, or the very object."""
    name = name_of(importance)
    return name.thing if isinstance(name, NamedObject) else name
