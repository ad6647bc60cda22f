"""Which stages ``tsdistill prune`` will go through, for an estimate of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tsdistill.cli.budget_options import named_budgets

if TYPE_CHECKING:
    from tsdistill.data import Stream


def expected_stages(
    given: dict[str, Any], cutting: dict[str, Any], judging: Stream, *, planned: bool, cut: bool
) -> dict[str, float]:
    """The stages of the whole command and their costs, as far as they are known beforehand.

    Args:
        given: the command's options, ``samples`` being those that pruning sees.
        cutting: what `tsdistill.prune_result` takes of them.
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
    from tsdistill.pruning.selection.budget import asked, budget_of
    from tsdistill.statistics.analysis_stages import analysis_stages

    samples = given["samples"] or SYNTHETIC_SAMPLES
    how = {**given, **cutting, "samples": samples, "teacher": given["teacher"] or None}
    if given["data"] is None:
        how["realign"] = False
    if not cut:
        return {} if planned else analysis_stages(samples, teacher=bool(given["teacher"]))
    if given["sweep"]:
        kind = given["sweep_by"]
        parts = {stages_of(kind, name): budget_of(**{kind: name}) for name in budgets_of(given["sweep"])}
        return sweep_stages(how, parts, judging.samples, analysed=False)
    if given["max_drop"] is not None:
        stages = search_stages(how, TRIALS, judging.samples, analysed=False)
    else:
        wanted = None if planned else asked(**named_budgets(given))
        stages = cut_stages(how, samples, wanted, analysed=planned)
    return {**stages, **comparison_stages(2, judging.samples, brief=True)}
