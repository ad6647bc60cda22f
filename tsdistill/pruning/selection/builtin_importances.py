"""The selection criteria that come with the toolkit: its own, and those of the literature to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import main_output
from tsdistill.evaluation.output_layout import layout_of
from tsdistill.options.pruning_options import RECONSTRUCTION
from tsdistill.plugins import hookimpl
from tsdistill.pruning.selection.importance import (
    Importance,
    OrderedImportance,
    fan_in,
    fan_out,
    in_parts_of_mean,
    observed_model,
    ranks_only,
)
from tsdistill.pruning.selection.pruning_order import PruningOrder, score
from tsdistill.runtime.forward import forward, to_model
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.tracing.graph import Group


class Reconstruction:
    """The error of the outputs that no refit of the layers that read a node can remove (the default)."""

    def orders(
        self,
        report: AlignmentReport,
        floors: Mapping[str, int],
        savings: Mapping[str, float],
        *,
        keep_strong: bool,
    ) -> list[PruningOrder]:
        """See `pruning_order.score`."""
        return score(report, floors, savings, keep_strong=keep_strong)


@ranks_only
@dataclass(frozen=True)
class Magnitude:
    """Norm of the fan-in weights, in parts of the group's mean (Li et al. 2017, Pruning filters).

    Args:
        power: of the norm, 1 or 2.
    """

    power: float = 1.0

    def __call__(self, report: AlignmentReport, group: Group) -> Tensor:
        """``‖w_k‖ / mean ‖w‖``, ``[nodes]``."""
        return in_parts_of_mean(fan_in(report, group).norm(self.power, dim=1))


@ranks_only
def batchnorm_scale(report: AlignmentReport, group: Group) -> Tensor:
    """|γ| of the batch norm that follows (Liu et al. 2017, Network Slimming, eq. 1), summed over several."""
    scales = [
        module.weight.detach()
        .double()[torch.as_tensor(slot.coords, device=module.weight.device)]
        .abs()
        .mean(1)
        for name, module in observed_model(report).named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for slot in group.slots
        if slot.param == f"{name}.weight"
    ]
    if not scales:
        raise TsdistillError(
            f"batchnorm-scale needs a batch norm behind every group, and {group.name} has none; exclude it, "
            "or give another importance"
        )
    return torch.stack(scales).sum(0)


@ranks_only
def fpgm(report: AlignmentReport, group: Group) -> Tensor:
    """Distance of a node's fan-in to those of all others, in parts of the group's mean (He et al. 2019,
    Filter Pruning via Geometric Median, eq. 4): the nearest to the geometric median is removed first."""
    weights = fan_in(report, group)
    return in_parts_of_mean(torch.cdist(weights, weights).sum(1))


@ranks_only
def wanda(report: AlignmentReport, group: Group) -> Tensor:
    """Σ |W| ‖x‖ over the weights that read a node (Sun et al. 2024, Wanda, eq. 1, summed over a node)."""
    costs = torch.zeros(group.size, dtype=torch.float64)
    for weights, scale in fan_out(report, group):
        costs += (weights.abs().sum(2) * scale).sum(1).cpu()
    return in_parts_of_mean(costs)


class Taylor:
    """(Σ gradient · weight)² over a node's fan-in, mean over batches (Molchanov et al. 2019, eq. 8).

    The loss is the cross-entropy of the labels; without labels of classes, that of classes drawn from the
    model's own probabilities (the Fisher information): towards what it says already there is no gradient.
    """

    _SEED = 0
    """Of the drawn classes: the same in every run."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[AlignmentReport, dict[str, Tensor]] = WeakKeyDictionary()

    def __call__(self, report: AlignmentReport, group: Group) -> Tensor:
        """Cost of every node, ``[nodes]``; the data are gone through once for all groups of a report."""
        if report not in self._known:
            costs = {each.name: torch.zeros(each.size, dtype=torch.float64) for each in report.graph.groups}
            for products in self._batches(report):
                for each in report.graph.groups:
                    costs[each.name] += _summed(each, products).square()
            self._known[report] = costs
        return self._known[report][group.name]

    def _batches(self, report: AlignmentReport) -> Iterator[dict[str, Tensor]]:
        """Per batch, gradient times weight of every parameter."""
        model, generator = observed_model(report), torch.Generator().manual_seed(self._SEED)
        used = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
        for x, y in report.statistics.data or ():
            with evaluation_mode(model), torch.enable_grad():
                for parameter in used.values():
                    parameter.requires_grad_(True)
                loss = _loss(main_output(forward(model, to_model(x, model))), y, generator)
                slopes = torch.autograd.grad(loss, [*used.values()], allow_unused=True)
            yield {
                name: (slope * parameter).detach().double().cpu()
                for (name, parameter), slope in zip(used.items(), slopes, strict=True)
                if slope is not None
            }


def _summed(group: Group, products: Mapping[str, Tensor]) -> Tensor:
    """Σ over everything that goes when a node goes, but the weights of its readers, ``[nodes]``."""
    readers = {(reader.param, reader.dim) for reader in group.readers}
    total = torch.zeros(group.size, dtype=torch.float64)
    for slot in group.slots:
        if slot.param in products and (slot.param, slot.dim) not in readers:
            total += products[slot.param].movedim(slot.dim, 0)[torch.as_tensor(slot.coords)].flatten(1).sum(1)
    return total


def _loss(output: Tensor, y: object, generator: torch.Generator) -> Tensor:
    """The loss of a batch, see `Taylor`; of values, their inner product with Gaussian noise (likewise)."""
    layout = layout_of(output)
    rows = layout.rows(output).flatten(0, -2)
    if layout.kind != "classes":
        noise = torch.randn(rows.shape, generator=generator, dtype=torch.float64)
        return (rows * noise.to(rows)).sum() / len(rows)
    if isinstance(y, Tensor) and not y.is_floating_point() and y.numel() == len(rows):
        return functional.cross_entropy(rows, y.flatten().long().to(rows.device))
    chances = rows.detach().double().cpu().softmax(1)
    return functional.cross_entropy(
        rows, torch.multinomial(chances, 1, generator=generator)[:, 0].to(rows.device)
    )


@hookimpl
def register_importance(register: Callable[[str, Importance | OrderedImportance], None]) -> None:
    """Register the seven."""
    register(RECONSTRUCTION, Reconstruction())
    register("magnitude", Magnitude())
    register("magnitude-l2", Magnitude(2.0))
    register("batchnorm-scale", batchnorm_scale)
    register("taylor", Taylor())
    register("fpgm", fpgm)
    register("wanda", wanda)
