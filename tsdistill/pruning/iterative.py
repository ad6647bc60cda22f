"""Pruning to a budget in rounds: observe, choose, cut, re-align."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from tsdistill.alignment.analysis import analyze_prepared
from tsdistill.alignment.report import AlignmentReport
from tsdistill.errors import BudgetUnreachable
from tsdistill.options.analysis_options import AnalysisOptions
from tsdistill.options.pruning_options import SelectionOptions
from tsdistill.pruning.plan_file import PruningPlan
from tsdistill.pruning.pruning_stages import CHOOSE, CUT, pruning_stages, round_name
from tsdistill.pruning.pruning_state import PruningState
from tsdistill.pruning.realignment import TURNS
from tsdistill.pruning.rounds import limits, rounds_for
from tsdistill.pruning.selection.budget import Budget
from tsdistill.pruning.selection.cost import measured_cost
from tsdistill.pruning.selection.cost_model import cost_model_of
from tsdistill.pruning.selection.latency_budget import TRIALS, find_limit
from tsdistill.pruning.selection.planner import choose_nodes
from tsdistill.pruning.selection.unreachable_budget import check_reachable
from tsdistill.runtime.progress import Progress, expect, prefixed, tell
from tsdistill.statistics.prepared_data import PreparedData


class IterativePruner:
    """Prunes one model to one budget, in rounds.

    Args:
        model: the dense model.
        teacher: a model whose nodes the selection serves.
        report: analysis of ``model`` with its statistics.
        prepared: the data.
        budget: ``None`` when only what costs nothing is to leave.
        selection: which nodes may leave, and how they are ordered.
        seed: of everything random.

    Attributes:
        notes: lines for the user.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module | None,
        report: AlignmentReport,
        prepared: PreparedData,
        budget: Budget | None,
        selection: SelectionOptions,
        *,
        seed: int,
    ) -> None:
        self._model = report.statistics.rebased or model
        self._teacher = teacher
        self._report = report
        self._prepared = prepared
        self._budget = budget
        self._selection = selection
        self._dense = report.graph.widths
        self._seed = seed
        self.notes: list[str] = []

    def run(
        self, rounds: int | None, realigns: bool, progress: Progress | None, *, joint: bool = True
    ) -> PruningState:
        """Prune in rounds.

        Args:
            rounds: their number; ``None`` for as many as the budget asks for (`rounds_for`).
            realigns: whether each ends with a re-alignment.
            progress: is called with the phase, the samples done and how many there are.
            joint: whether a re-alignment refits the layers of blocks together.

        Raises:
            BudgetUnreachable: the budget cannot be met.
            TsdistillError: anything that a round raises.
        """
        state = PruningState(self._model, self._report.graph, self._prepared)
        if self._budget is None:
            self._round(state, self._report, None, progress, last=True)
            return state
        if measured_cost(self._budget.kind) is None:
            check_reachable(self._report, self._budget, self._selection)
        whole, end = self._ends()
        parts = limits(1.0, end / whole, rounds_for(end / whole, rounds, realigns))
        teacher = self._teacher is not None
        coming = pruning_stages(
            self._prepared.samples, len(parts), realigns=realigns, joint=joint, teacher=teacher
        )
        expect(progress, coming)
        for number, part in enumerate(parts, 1):
            round_progress = prefixed(progress, round_name(number, len(parts)))
            report = self._report
            if number > 1:
                report = analyze_prepared(
                    state.model,
                    self._teacher,
                    self._prepared,
                    AnalysisOptions(strength_target=None),
                    seed=self._seed,
                    progress=round_progress,
                    like=self._report.graph,
                    queries=self._report.statistics.queries,
                )
            self._round(state, report, part, round_progress, last=number == len(parts))
            if realigns:
                turns = (TURNS if number == len(parts) else 1) if joint else 0
                state.realign(self._seed + number, round_progress, turns=turns)
        return state

    def _ends(self) -> tuple[float, float]:
        """What the dense model has, and what is to be left of it."""
        budget = self._budget
        assert budget is not None
        cost = measured_cost(budget.kind)
        if cost is not None:
            example = self._prepared.example
            whole = 1.0 if budget.kept else cost.measure(self._model, self._model, example).dense
        else:
            whole = cost_model_of(self._report.graph, budget.kind).total
        return whole, budget.absolute(whole)

    def _round(
        self,
        state: PruningState,
        report: AlignmentReport,
        part: float | None,
        progress: Progress | None,
        *,
        last: bool,
    ) -> None:
        """One cut, to ``part`` of what the dense model has; the ``last`` meets the budget itself."""
        statistics = report.statistics
        while True:
            tell(progress, CHOOSE)
            chosen = self._possible_plan(state, report, part, last)
            tell(progress, CUT)
            if state.cut(
                chosen, report.graph, statistics.sites, statistics.observed, exact=self._budget is None
            ):
                return

    def _possible_plan(
        self, state: PruningState, report: AlignmentReport, part: float | None, last: bool
    ) -> PruningPlan:
        """`_plan`; where groups that were put back make the budget impossible, the refusal names them."""
        try:
            return self._plan(state, report, part, last)
        except BudgetUnreachable as error:
            if not state.put_back:
                raise
            causes = "; ".join(f"{item.name} ({item.cause})" for item in [*state.put_back.values()][:3])
            raise BudgetUnreachable(f"{error}; these could not be cut: {causes}") from error

    def _plan(
        self, state: PruningState, report: AlignmentReport, part: float | None, last: bool
    ) -> PruningPlan:
        whole = state.whole(report.graph)
        budget = self._budget
        if budget is None or part is None:
            return choose_nodes(report, None, self._selection, whole=whole, dense=self._dense)
        if measured_cost(budget.kind) is not None:
            return self._plan_measured(state, report, part, last, whole)
        all_of_it = cost_model_of(self._report.graph, budget.kind).total
        amount = budget.absolute(all_of_it) if last else all_of_it * part
        return choose_nodes(report, budget, self._selection, limit=amount, whole=whole, dense=self._dense)

    def _plan_measured(
        self, state: PruningState, report: AlignmentReport, part: float, last: bool, whole: Collection[str]
    ) -> PruningPlan:
        """A plan that brings a measured cost to ``part`` of the dense one (before the last round roughly)."""
        budget, graph, example = self._budget, report.graph, self._prepared.example
        assert budget is not None
        cost = measured_cost(budget.kind)
        assert cost is not None
        price = cost.estimate(state.model, graph, example)

        def plan_for(limit: float, more: Collection[str]) -> PruningPlan:
            everywhere = (*whole, *more)
            return choose_nodes(
                report,
                budget,
                self._selection,
                limit=limit,
                price=price,
                whole=everywhere,
                dense=self._dense,
            )

        target, trials = (budget, TRIALS) if last else (Budget(budget.kind, part), 2)
        dense = self._model if state.rounds else None
        search = find_limit(
            state.model,
            graph,
            example,
            target,
            plan_for,
            price,
            dense=dense,
            trials=trials,
            measure=cost.measure,
        )
        self.notes = list(search.notes)
        return search.plan
