"""The state of pruning in rounds: the model after each cut, and which nodes of the dense model are left."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
from torch import nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models import Attribute, ModelInfo, attach, info_of
from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.plain_tensors import named_tensors
from tsdistill.pruning.calibration_check import groups_that_fail
from tsdistill.pruning.compensate import compensate, match_norms
from tsdistill.pruning.plan_file import PrunedGroup, PruningPlan
from tsdistill.pruning.realignment import ROUNDING, TURNS, Outputs, Realigned, realign
from tsdistill.runtime.call_layers import find_settings
from tsdistill.runtime.progress import Progress
from tsdistill.statistics.observation import Observation
from tsdistill.statistics.prepared_data import PreparedData
from tsdistill.statistics.sites import ModelSites
from tsdistill.tracing import BranchCut, Cut, cut
from tsdistill.tracing.attention_scale import ActivationGains
from tsdistill.tracing.graph import Frozen, Group, NodeGraph
from tsdistill.tracing.model_copy import deepcopy_model
from tsdistill.tracing.surgery import removed_coordinates

USELESS = 1.0
"""An error (`Outputs.error`) that outputs of nothing but zeros would have."""


class PruningState:
    """The present model and the plans that led to it, one a round.

    Args:
        dense: it is left as it was.
        graph: its node graph, or that of ``bare``.
        prepared: its data.
        bare: the dense model without the branches that are removed, where there are any.

    Attributes:
        model: what is left so far.
        graph: node graph of the dense model, or of ``bare``.
        branches: names of the branches that are removed.
        rounds: number of cuts so far.
        put_back: groups that could not be cut and are whole, by name.
        skipped: layers that lost nodes without compensation.
        realigned: what the last re-alignment did, ``None`` before the first.
    """

    def __init__(
        self, dense: nn.Module, graph: NodeGraph, prepared: PreparedData, *, bare: BranchCut | None = None
    ) -> None:
        self.dense = dense
        self.model = dense if bare is None else bare.model
        self.branches = () if bare is None else bare.removed
        self._kept_branches = () if bare is None else bare.put_back
        self.rounds = 0
        self.put_back: dict[str, Frozen] = {}
        self.skipped: tuple[str, ...] = ()
        self._unset: set[str] = set()
        self.realigned: Realigned | None = None
        self.graph = graph
        self._prepared = prepared
        self._index_map = IndexMap(dense, graph)
        self._left: dict[str, list[tuple[int, str, float]]] = {group.name: [] for group in graph.groups}
        self._plans: list[PruningPlan] = []
        self._cautions: list[str] = []
        self._figures: Mapping[str, int] = graph.figures()

    def cut(
        self,
        plan: PruningPlan,
        graph: NodeGraph,
        sites: ModelSites,
        observed: Observation,
        *,
        exact: bool = False,
    ) -> bool:
        """Compensate and cut by a plan; ``False``, and nothing cut, when groups turn out to be impossible to
        cut.

        Those join ``put_back``: the plan is then to be made anew, or to be followed without them.

        Args:
            plan: of the present model.
            graph: its node graph.
            sites: its sites.
            observed: what was observed there.
            exact: the function stays as it is, so that norms have nothing to follow.
        """
        leaving = {
            name: np.array(nodes, dtype=np.int64)
            for name, nodes in plan.removed.items()
            if name not in self.put_back
        }
        done, skipped = self._compensated_cut(graph, sites, observed, leaving)
        failed = done.put_back or groups_that_fail(done, self.model, graph, self._prepared)
        if failed:
            self.put_back.update({item.name: item for item in failed})
            return False
        if not exact:
            match_norms(self.model, done.model, graph, done.removed, self._prepared)
            done = self._bounded(done, graph, sites, observed, leaving)
        attach(done.model, info_after(info_of(self.model), done))
        self._write_down(plan, graph, done.removed)
        kept = {name: size - len(done.removed.get(name, ())) for name, size in graph.widths.items()}
        self._figures = graph.figures(kept)
        self._index_map.cut(graph, done.removed, done.gains)
        self.skipped = tuple(dict.fromkeys((*self.skipped, *skipped)))
        self._unset |= {name for name in skipped if isinstance(self.model.get_submodule(name), ComputedCall)}
        self.model = done.model
        self.rounds += 1
        return True

    def _compensated_cut(
        self,
        graph: NodeGraph,
        sites: ModelSites,
        observed: Observation,
        leaving: Mapping[str, np.ndarray],
    ) -> tuple[Cut, tuple[str, ...]]:
        whole = deepcopy_model(self.model)
        skipped = compensate(whole, sites, observed, leaving, self._prepared.example)
        return cut(whole, graph, leaving, self._prepared.example), skipped

    def _bounded(
        self,
        done: Cut,
        graph: NodeGraph,
        sites: ModelSites,
        observed: Observation,
        leaving: Mapping[str, np.ndarray],
    ) -> Cut:
        """``done``, or where its outputs are worse than none (predictions from a handful of samples, each a
        little wrong, layer upon layer): the best of cuts that believe fewer of them, and none."""
        first = least = self._error(done.model)
        if not first > USELESS:
            return done
        best = done
        careful = {
            key: replace(seen, rows=min(seen.rows, observed.samples))
            for key, seen in observed.covariances.items()
        }
        for believed in (careful, {}):
            other, _ = self._compensated_cut(graph, sites, replace(observed, covariances=believed), leaving)
            match_norms(self.model, other.model, graph, other.removed, self._prepared)
            if not other.put_back and (error := self._error(other.model)) < least:
                best, least = other, error
        if best is not done:
            self._cautions.append(
                f"{observed.samples} samples are few: what leaves was absorbed with caution (outputs are off "
                f"by {least:.2g}, not {first:.2g}); give more samples"
            )
        return best

    @cached_property
    def _outputs(self) -> Outputs:
        return Outputs(self.dense, self._prepared)

    def _error(self, model: nn.Module) -> float:
        """How far a model's outputs are from the dense model's, as `Outputs.error`; NaN where it cannot
        run."""
        try:
            return self._outputs.error(model)
        except TsdistillError:
            return float("nan")

    def realign(self, seed: int, progress: Progress | None, *, turns: int = TURNS) -> None:
        """Fit the surviving nodes back to the dense model's; a model on which that fails, or whose outputs
        would be further from the dense model's than they are, stays as it was."""
        before = copy.deepcopy(self.model.state_dict())
        try:
            find_settings(self.model, self._prepared.example)
            was = self._outputs.error(self.model)
            self.realigned = realign(
                self.dense,
                self.model,
                self._index_map.kept,
                self._prepared,
                gains=self._index_map.gains,
                seed=seed,
                turns=turns,
                progress=progress,
            )
            if (now := self._outputs.error(self.model)) > was and now > ROUNDING:
                self.model.load_state_dict(before)
                note = f"re-alignment would have made the outputs worse (error {now:.2g}, was {was:.2g})"
                self.realigned = Realigned(0, self.realigned.looked, self.realigned.samples, notes=(note,))
        except Exception as error:  # the model's own code runs, layer by layer, and may raise anything
            self.model.load_state_dict(before)
            note = f"the nodes that stay are not re-aligned: {cause_of(error)}"
            self.realigned = Realigned(0, 0, 0, notes=(note,))

    def whole(self, graph: NodeGraph) -> tuple[str, ...]:
        """Groups of the present model's graph that lose nothing: put back, or no nodes of the dense model."""
        regrouped = (group.name for group in graph.groups if self._index_map.nodes(group) is None)
        return (*self.put_back, *regrouped)

    def figures(self) -> dict[str, int]:
        """``{"params", "macs", "nodes"}`` of the present model."""
        return dict(self._figures)

    def notes(self) -> list[str]:
        """Lines for the user."""
        notes = self._cautions + [
            f"group {item.name!r} could not be cut and is whole: {item.cause}"
            for item in self.put_back.values()
        ]
        notes += [f"branch {each.name!r} could not be removed: {each.cause}" for each in self._kept_branches]
        if self.skipped:
            notes.append(f"these layers lost nodes without absorbing them: {', '.join(self.skipped)}")
        if self._unset:
            names = ", ".join(sorted(self._unset))
            notes.append(f"no one parameter sets the weights that the forward computes for {names}")
        return [*notes, *(self.realigned.notes if self.realigned else ())]

    def plan(self) -> PruningPlan:
        """All rounds as one plan of the dense model."""
        first, last = self._plans[0], self._plans[-1]
        if len(self._plans) == 1:
            return replace(first, branches=self.branches)
        groups = {
            group.name: PrunedGroup(
                group.size,
                tuple(node for node, _, _ in self._left[group.name]),
                tuple(reason for _, reason, _ in self._left[group.name]),
                tuple(cost for _, _, cost in self._left[group.name]),
            )
            for group in self.graph.groups
        }
        return replace(first, groups=groups, after=last.after, branches=self.branches)

    def _write_down(self, plan: PruningPlan, graph: NodeGraph, removed: Mapping[str, np.ndarray]) -> None:
        for name, pruned in plan.groups.items():
            if name not in removed:
                continue
            origin = self._index_map.nodes(graph.by_name[name])
            assert origin is not None
            for node, reason, price in zip(pruned.removed, pruned.reasons, pruned.costs, strict=True):
                group, then = origin[node]
                self._left[group].append((then, reason, price))
        self._plans.append(plan)


def info_after(info: ModelInfo, done: Cut) -> ModelInfo:
    """What is known about the model, with the cut's attributes and buffers added to those of earlier cuts;
    no file holds it any more."""
    attributes: dict[tuple[str, str], Attribute] = {
        (item.module, item.name): item for item in (*info.attributes, *done.attributes)
    }
    return replace(
        info,
        name=None,
        attributes=tuple(attributes.values()),
        buffers=tuple(dict.fromkeys((*info.buffers, *done.buffers))),
    )


class IndexMap:
    """Follows parameters and buffers from cut to cut.

    Attributes:
        kept: ``(parameter or buffer, dimension)`` -> int64, for every coordinate that is left the one that it
            was in the dense model.
        gains: ``(weight, dimension)`` -> float64, for every coordinate that is left how many times as large
            as there its activation is; where none are given, all are as they were.
    """

    def __init__(self, dense: nn.Module, graph: NodeGraph) -> None:
        self.gains: ActivationGains = {}
        self.kept: dict[tuple[str, int], np.ndarray] = {}
        for name, tensor in named_tensors(dense, remove_duplicate=False):
            self.kept.update({(name, dim): np.arange(side) for dim, side in enumerate(tensor.shape)})
        self._owner: dict[tuple[str, int], dict[int, tuple[str, int]]] = {}
        for group in graph.groups:
            for slot in group.slots[:1]:
                owner = self._owner.setdefault((slot.param, slot.dim), {})
                for node, coords in enumerate(slot.coords):
                    owner.update(dict.fromkeys(coords.tolist(), (group.name, node)))

    def nodes(self, group: Group) -> list[tuple[str, int]] | None:
        """For every node of a group of the present model, the dense model's group and node that it is.

        ``None`` where its nodes are no nodes of the dense model: a block that goes by rows there may go by
        columns here.
        """
        for slot in group.slots:
            owner = self._owner.get((slot.param, slot.dim))
            if owner is not None:
                then = self.kept[slot.param, slot.dim][slot.coords].tolist()
                owners = [{owner.get(coordinate) for coordinate in node} for node in then]
                kept = [one for each in owners if len(each) == 1 for one in each if one is not None]
                return kept if len(set(kept)) == group.size else None
        return None

    def cut(
        self, graph: NodeGraph, removed: Mapping[str, np.ndarray], gains: ActivationGains | None = None
    ) -> None:
        """Nodes have left the present model, whose graph this is; activations were multiplied by
        ``gains``."""
        for key, coords in removed_coordinates(graph, removed).items():
            stays = np.ones(len(self.kept[key]), dtype=bool)
            stays[coords] = False
            self.kept[key] = self.kept[key][stays]
            if key in self.gains:
                self.gains[key] = self.gains[key][stays]
        for key, times in (gains or {}).items():
            self.gains[key] = self.gains.get(key, np.ones(len(times))) * times
