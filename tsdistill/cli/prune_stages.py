"""The stages of ``tsdistill prune`` and their costs, for an estimate of the time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tsdistill.cli.budget_options import budget
from tsdistill.options import DataOptions, RealignOptions

if TYPE_CHECKING:
    from tsdistill.data import Stream


def expected_stages(
    params: dict[str, Any],
    realignment: RealignOptions,
    inputs: DataOptions,
    judging: Stream,
    *,
    planned: bool,
    cut: bool,
) -> dict[str, float]:
    """The stages of the whole command and their costs, as far as they are known beforehand.

    Args:
        params: the command's options.
        realignment: what is done about the nodes that stay.
        inputs: how the samples are read that pruning sees.
        judging: the samples that the models are compared on.
        planned: whether a plan is followed.
        cut: whether anything is cut.
    """
    from tsdistill.cli.prune_sweep import budgets_of
    from tsdistill.data.opener import SYNTHETIC_SAMPLES
    from tsdistill.evaluation.model_comparison import comparison_stages
    from tsdistill.pruning.accuracy_search import TRIALS
    from tsdistill.pruning.budget_sweep import stages_of
    from tsdistill.pruning.pruning_stages import cut_stages, search_stages, sweep_stages
    from tsdistill.pruning.selection.budget import budget_of, requested
    from tsdistill.statistics.analysis_stages import analysis_stages

    samples, teacher = inputs.samples or SYNTHETIC_SAMPLES, bool(params["teacher"])
    if params["data"] is None:
        realignment = replace(realignment, realign=False)
    if not cut:
        return {} if planned else analysis_stages(samples, teacher=teacher)
    if params["sweep"]:
        kind = params["sweep_by"]
        parts = {stages_of(kind, name): budget_of(**{kind: name}) for name in budgets_of(params["sweep"])}
        return sweep_stages(
            realignment, replace(inputs, samples=samples), parts, judging.samples, teacher=teacher
        )
    if params["max_drop"] is not None:
        stages = search_stages(realignment, samples, TRIALS, judging.samples, teacher=teacher)
    else:
        wanted = None if planned else requested(None, budget(params))
        stages = cut_stages(
            realignment, samples, wanted, lossless=params["lossless"], teacher=teacher, analysed=planned
        )
    return {**stages, **comparison_stages(2, judging.samples, brief=True)}
