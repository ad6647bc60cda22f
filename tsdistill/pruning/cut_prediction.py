"""``predict_cuts``: what cuts would cost, from the statistics of a report and without cutting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.alignment.predicted_cuts import PredictedCut, PredictedCuts
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import BudgetUnreachable
from tsdistill.options.data_options import DataOptions
from tsdistill.options.old_names import grouped
from tsdistill.pruning.compensate import NormInputs, compensate
from tsdistill.pruning.head_basis.head_layout import find_heads
from tsdistill.pruning.plan_file import PruningPlan
from tsdistill.pruning.pruning_analysis import analyze_prepared_for_pruning
from tsdistill.pruning.realignment import Outputs
from tsdistill.pruning.selection.planner import plan
from tsdistill.runtime.call_layers import call_layers
from tsdistill.runtime.forward import head
from tsdistill.runtime.hooks import InputHooks, Look
from tsdistill.runtime.nests import count
from tsdistill.runtime.progress import Progress, tell
from tsdistill.statistics.analysis_stages import PREDICT
from tsdistill.statistics.prepared_data import PreparedData, prepare
from tsdistill.statistics.sites import GroupSite
from tsdistill.torch_private import parameters_of
from tsdistill.tracing.model_copy import deepcopy_model

KEPT = (0.9, 0.75, 0.5, 0.25)
"""Parts of the MACs for which cuts are predicted unless others are asked for: from a trim to a quarter."""

SAMPLES = 32
"""Samples on which the output is looked at: a mean over all its figures, so that few samples are enough. On
three networks of ``benchmarks/trained`` a cut moves the output on 1,000 others 0.79 to 1.17 times as far;
twice as many samples, at twice the cost, make that 0.84 to 1.17."""


def prediction_stages(cuts: int = len(KEPT)) -> dict[str, float]:
    """Stage -> cost in forward passes of one sample of predicting so many cuts: the norms and the outputs of
    the model, and of every cut."""
    return {PREDICT: 2.0 * SAMPLES * (1 + cuts)}


@grouped(inputs=DataOptions)
def predict_cuts(
    model: nn.Module,
    data: Any = None,
    *,
    report: AlignmentReport | None = None,
    macs: Sequence[float] = KEPT,
    inputs: DataOptions | Mapping[str, Any] = DataOptions(),
    seed: int = 0,
    progress: Progress | None = None,
) -> PredictedCuts:
    """The cuts that ``prune`` would choose in one round, and how far each moves the output.

    Nothing is cut. In a copy of the model the layers that read what would leave are compensated as ``prune``
    compensates them and read zeros in its place, and batch norms follow: that is the function of the cut
    model. The output is looked at on samples that nothing was fitted to, where the data have any. The
    model's own output is meant, beside a teacher too.

    Args:
        model: it is left as it was.
        data: what ``tsdistill.data.open_data`` takes; ``None`` for a synthetic source.
        report: an analysis of this very model with its statistics, so that it is not made again (but for
            attention that loses the size of its heads, see ``prune``'s ``heads``).
        macs: parts of the MACs that are kept, each above 0 and at most 1.
        inputs: how samples are read and how inputs look (`DataOptions`, or some of them by name).
        seed: of everything random.
        progress: is called with the phase, the samples done and how many there are.

    Raises:
        TsdistillError: anything that ``analyze`` raises, or a forward pass that fails.
    """
    prepared = prepare(model, data, DataOptions.of(inputs), seed=seed)
    with call_layers(model, prepared.example):
        return _predicted(model, report, prepared, macs, seed, progress)


def _predicted(
    model: nn.Module,
    report: AlignmentReport | None,
    prepared: PreparedData,
    macs: Sequence[float],
    seed: int,
    progress: Progress | None,
) -> PredictedCuts:
    """`predict_cuts` on data that have been opened."""
    report = _own(model, report, prepared, seed, progress)
    tell(progress, PREDICT)
    statistics = report.statistics
    whole = statistics.rebased or model
    other = prepared.stream.held_out(SAMPLES)
    if other is not None and next(iter(other), None) is None:
        other = None
    outputs = Outputs(whole, prepared if other is None else other, SAMPLES)
    norms = NormInputs(whole, _first(prepared, SAMPLES))
    cuts, notes = [], []
    for number, part in enumerate(macs):
        tell(progress, PREDICT, number, len(macs))
        try:
            chosen = plan(report, macs=float(part))
        except BudgetUnreachable as error:
            notes.append(str(error))
            continue
        cost = sum(sum(group.costs) for group in chosen.groups.values())
        cuts.append(
            PredictedCut(
                macs=float(part),
                macs_kept=chosen.after["macs"] / chosen.before["macs"],
                params_kept=chosen.after["params"] / chosen.before["params"],
                error=_error(whole, report, chosen, outputs, norms, prepared.example),
                least=sqrt(max(cost, 0.0) / statistics.output_power) if statistics.output_power else 0.0,
                widths={name: group.size - len(group.removed) for name, group in chosen.groups.items()},
            )
        )
    tell(progress, PREDICT, len(macs), len(macs))
    return PredictedCuts(
        report.graph.widths,
        tuple(cuts),
        min(SAMPLES, report.samples) if other is None else SAMPLES,
        notes=tuple(dict.fromkeys(notes)),
        held_out=other is not None,
    )


def _own(
    model: nn.Module,
    report: AlignmentReport | None,
    prepared: PreparedData,
    seed: int,
    progress: Progress | None,
) -> AlignmentReport:
    """The report that ``prune`` would choose by: the one that is there, without its teacher, if it can be."""
    if report is None or (report.statistics.rebased is None and find_heads(model, report.graph)):
        return analyze_prepared_for_pruning(model, None, prepared, seed=seed, progress=progress)
    statistics = report.statistics
    return replace(report, statistics=replace(statistics, observed=replace(statistics.observed, pairs={})))


def _error(
    model: nn.Module,
    report: AlignmentReport,
    chosen: PruningPlan,
    outputs: Outputs,
    norms: NormInputs,
    example: Any,
) -> float | None:
    """How far the output moves when the nodes of a plan leave, as `PredictedCut.error`."""
    statistics = report.statistics
    leaving = {name: np.array(nodes, dtype=np.int64) for name, nodes in chosen.removed.items()}
    changed = deepcopy_model(model)
    compensate(changed, statistics.sites, statistics.observed, leaving, example)
    hooks: dict[str, list[Look]] = {}
    for name, nodes in leaving.items():
        for reading in statistics.sites.readings.get(name, ()):
            module, look = _without(report, reading, nodes)
            hooks.setdefault(module, []).append(look)
        _silence(changed, report, name, nodes)
    with InputHooks(changed, hooks):
        norms.match(changed)
        moved = outputs.error(changed)
    return sqrt(moved) if isfinite(moved) else None


def _first(prepared: PreparedData, samples: int) -> Iterator[tuple[Any, Any]]:
    """The first ``samples`` samples, in batches: a channel's moments are over positions, too."""
    taken = 0
    for x, y in prepared:
        yield head(x, samples - taken), y
        taken += count(x)
        if taken >= samples:
            return


def _without(report: AlignmentReport, reading: GroupSite, nodes: np.ndarray) -> tuple[str, Look]:
    """A layer that reads a group, and its input with zeros in place of some nodes."""
    site = report.statistics.sites.sites[reading.site]
    features = reading.features[nodes].reshape(-1)
    channels = torch.as_tensor(features if site.layout is None else site.layout[features].reshape(-1))

    def look(x: Tensor) -> Tensor:
        return x.index_fill(site.channel_dim, channels.to(x.device), 0) if x.is_floating_point() else x

    return site.module, look


def _silence(model: nn.Module, report: AlignmentReport, name: str, nodes: np.ndarray) -> None:
    """Write zeros where a layer makes the queries of removed nodes: their products are removed with them."""
    item = report.statistics.queries.get(name)
    if item is None:
        return
    slots = report.graph.by_name[name].slots
    slot = next(each for each in slots if (each.param, each.dim) == (f"{item.module}.weight", 0))
    rows = torch.as_tensor(slot.coords[nodes][:, item.columns].reshape(-1))
    written: Mapping[str, Tensor | None] = parameters_of(model.get_submodule(item.module))
    with torch.no_grad():
        for tensor in (written["weight"], written.get("bias")):
            if tensor is not None:
                tensor[rows.to(tensor.device)] = 0
