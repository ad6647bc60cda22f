"""A plan that is given is followed: branches leave first, then nodes of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from tsdistill.models.files.stored_weights import check_finite
from tsdistill.options.data_options import DataOptions
from tsdistill.pruning.branch_removal import plan_of_branches, without_branches
from tsdistill.pruning.head_basis import rewrite_heads, traced_like
from tsdistill.pruning.plan_file import PruningPlan
from tsdistill.pruning.pruning_analysis import graph_of
from tsdistill.pruning.pruning_stages import CUT
from tsdistill.pruning.pruning_state import PruningState
from tsdistill.runtime.progress import Progress, tell
from tsdistill.statistics.analysis_stages import TRACE
from tsdistill.statistics.observation import observe
from tsdistill.statistics.prepared_data import PreparedData, inputs_for, prepare
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import remove_branches, trace


def check_plan(model: nn.Module, plan: PruningPlan, example: Any) -> None:
    """Refuse a plan that does not fit a model.

    Args:
        model: the whole model.
        plan: the plan.
        example: an input of batch 1.

    Raises:
        TsdistillError: branches or groups that the model does not have, or groups of another size.
    """
    bare = remove_branches(model, plan.branches, example).model if plan.branches else model
    plan.check(graph_of(bare, example, plan.by_size))


def plan_of_drop(
    model: nn.Module, drop: Sequence[str] | str, *, data: Any, inputs: DataOptions, seed: int = 0
) -> PruningPlan:
    """The plan by which branches leave, with what is left then; nothing is re-aligned.

    Args:
        model: the whole model.
        drop: patterns of names of branches.
        data: what ``tsdistill.data.open_data`` takes.
        inputs: how samples are read and how inputs look.
        seed: of everything random.

    Raises:
        TsdistillError: a pattern that meets no branch, or branches none of which can be removed.
    """
    follower = PlanFollower(model, prepare(model, data, inputs, seed=seed), seed, None)
    return follower.follow(None, drop, realigns=True)[0]


class PlanFollower:
    """Follows a plan on one model.

    Args:
        model: the whole model.
        prepared: its data.
        seed: of everything random.
        progress: is called with the phase, the samples done and how many there are.

    Attributes:
        graph: node graph of the whole model.

    Raises:
        TsdistillError: NaN or infinite weights, or a forward that fails.
    """

    def __init__(
        self, model: nn.Module, prepared: PreparedData, seed: int, progress: Progress | None
    ) -> None:
        tell(progress, TRACE)
        check_finite(model, "the model")
        self._model, self._prepared, self._seed, self._progress = model, prepared, seed, progress
        self.graph = trace(model, prepared.example, others=inputs_for(model, prepared))

    def follow(
        self, plan: PruningPlan | None, drop: Sequence[str] | str, *, realigns: bool
    ) -> tuple[PruningPlan, PruningState]:
        """Remove branches, and cut nodes, without those that cannot be.

        Args:
            plan: the plan; ``None`` where only branches leave.
            drop: patterns of names of branches, where no plan is given.
            realigns: whether a re-alignment follows.

        Returns:
            the plan, and the state after it.

        Raises:
            TsdistillError: a plan that does not fit the model, or a pattern that meets no branch.
        """
        model, graph, prepared = self._model, self.graph, self._prepared
        if plan is None:
            plan = plan_of_branches(model, prepared, drop, graph)
        if plan.by_size:
            rewritten = rewrite_heads(model, graph, prepared.example, prepared, plan.by_size)
            if rewritten is not None:
                model, graph = rewritten.model, rewritten.graph
        bare = None
        if plan.branches:
            tell(self._progress, CUT)
            bare = without_branches(model, plan.branches, prepared, realigns=realigns)
            graph = trace(bare.model, prepared.example, others=inputs_for(bare.model, prepared))
            if plan.by_size:
                graph = traced_like(bare.model, prepared.example, graph, plan.by_size)
        state = PruningState(model, graph, prepared, bare=bare)
        if not plan.groups and bare is not None:
            return replace(plan, after=graph.figures(), branches=bare.removed), state
        self._cut(plan, state)
        return plan, state

    def _cut(self, plan: PruningPlan, state: PruningState) -> None:
        """Cut by the groups of a plan, without those that cannot be cut."""
        plan.check(state.graph)
        sites = find_sites(state.model, state.graph, set(plan.removed))
        observed = observe(state.model, sites, self._prepared, seed=self._seed, progress=self._progress)
        tell(self._progress, CUT)
        while not state.cut(plan, state.graph, sites, observed):
            pass
