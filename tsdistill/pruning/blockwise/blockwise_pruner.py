"""Pruning block by block: equal widths in all blocks, each fitted towards the dense model's stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from tsdistill import plugins
from tsdistill.data.text.text_spec import text_spec, tokenizer_of
from tsdistill.errors import TsdistillError
from tsdistill.models import attach, info_of
from tsdistill.models.files.stored_weights import check_finite, shapes_of
from tsdistill.models.sources import hf_config, hf_source
from tsdistill.models.sources.hf_inputs import is_transformers
from tsdistill.options.option_fields import written
from tsdistill.options.pruning_options import RECONSTRUCTION, SelectionOptions
from tsdistill.pruning.blockwise.block_readers import BlockReader, readers_of, summands_of
from tsdistill.pruning.blockwise.block_stack import BlockStack, StackInputs, find_stacks, stack_inputs
from tsdistill.pruning.blockwise.output_divergence import OutputDivergence
from tsdistill.pruning.blockwise.reader_fit import ReaderFit
from tsdistill.pruning.blockwise.stack_fit import PILOT_BATCHES, StackData, StackFit
from tsdistill.pruning.blockwise.uniform_widths import GroupKind, LossCurve, kinds_of, uniform_widths
from tsdistill.pruning.plan_file import PrunedGroup, PruningPlan
from tsdistill.pruning.pruning_state import info_after
from tsdistill.pruning.selection.budget import Budget
from tsdistill.pruning.selection.width_constraints import WidthConstraints, constraints_of
from tsdistill.runtime.forward import to_model
from tsdistill.runtime.progress import Progress, tell
from tsdistill.statistics.analysis_stages import TRACE
from tsdistill.statistics.prepared_data import PreparedData, inputs_for
from tsdistill.statistics.sample_blocks import token_mask
from tsdistill.tracing import Cut, cut, trace, trace_branches
from tsdistill.tracing.model_copy import deepcopy_model

READ, WIDTHS, FIT, REMOVE = "running up to the blocks", "choosing widths", "fitting blocks", "removing nodes"
"""Stages of pruning block by block."""

DIVERGENCE_BATCHES = 2
"""Batches on which outputs are compared to weigh kinds of groups against one another."""

COUNTED = ("params", "macs", "nodes")
"""Budgets that are counted from widths."""


@dataclass(frozen=True, eq=False)
class BlockwiseCut:
    """What pruning block by block gives.

    Attributes:
        cut: the smaller model.
        plan: which nodes left.
        fitted: number of layers that were fitted.
        notes: lines for the user.
    """

    cut: Cut
    plan: PruningPlan
    fitted: int
    notes: tuple[str, ...]


class NoEqualWidths(TsdistillError):
    """A model has no blocks whose widths could be equal and be said by its configuration."""


class BlockwisePruner:
    """Prunes one model to one budget with equal widths in every block of a stack.

    Args:
        model: the dense model; it is left as it is.
        prepared: its data, real ones.
        selection: which nodes may leave.
        progress: is called with the stage, how much of it is done and of how much.

    Attributes:
        graph: node graph of the dense model.

    Raises:
        NoEqualWidths: no stack of blocks, or none with widths that could be equal.
        TsdistillError: data that are made up, NaN or infinite weights, or a forward that fails.
    """

    def __init__(
        self,
        model: nn.Module,
        prepared: PreparedData,
        selection: SelectionOptions,
        progress: Progress | None = None,
    ) -> None:
        if prepared.synthetic:
            raise TsdistillError(
                f"{written('uniform', True)} fits blocks to what the dense model computes from data; give "
                f"{written('data')}"
            )
        tell(progress, TRACE)
        check_finite(model, "the model")
        self._model, self._prepared, self._progress = model, prepared, progress
        self.graph = trace(model, prepared.example, others=inputs_for(model, prepared))
        self._stacks = find_stacks(model, prepared.example)
        kinds = kinds_of(self.graph, self._stacks)
        self._whole: list[str] = []
        branches = trace_branches(model, prepared.example)
        self._summands = {stack: summands_of(branches, stack.names[0]) for stack in self._stacks}
        self._readers = {stack: self._stack_readers(stack, kinds) for stack in self._stacks}
        if not any(self._readers.values()):
            cause = "; ".join(self._whole) or "it has no stack of equal blocks with nodes that could leave"
            raise NoEqualWidths(
                f"{type(model).__name__} cannot get equal widths in all blocks: {cause}; give "
                f"{written('uniform', False)}"
            )
        self._limits = self._constraints(selection)

    def _stack_readers(self, stack: BlockStack, kinds: Iterable[GroupKind]) -> tuple[BlockReader, ...]:
        """The layers of a stack's blocks that read kinds whose widths a configuration can say."""
        here = [kind for kind in kinds if stack.names[0] in kind.groups]
        readers, whole = readers_of(self._model, here)
        self._whole += [f"{name} is read by several layers or by no plain one" for name in whole]
        if not is_transformers(self._model):
            return readers
        sayable = [hf_config.says(self._model, _shapes(self._model, reader.kind)) for reader in readers]
        for reader, able in zip(readers, sayable, strict=True):
            if not able:
                self._whole.append(f"no configuration of the model's family says {reader.kind.name}'s width")
        return tuple(reader for reader, able in zip(readers, sayable, strict=True) if able)

    def _constraints(self, selection: SelectionOptions) -> WidthConstraints:
        whole = {name for name in self.graph.widths if name not in self._prunable}
        return constraints_of(
            self.graph,
            min_nodes=selection.min_nodes,
            round_to=selection.round_to,
            only=selection.only,
            exclude=selection.exclude,
            whole=whole,
        )

    @property
    def _prunable(self) -> set[str]:
        readers = [reader for each in self._readers.values() for reader in each]
        return {group.name for reader in readers for group in reader.kind.groups.values()}

    def run(self, budget: Budget) -> BlockwiseCut:
        """Choose widths, fit every block, and remove what has left.

        Raises:
            TsdistillError: a budget that is not counted from widths, or that equal widths cannot meet.
        """
        if budget.kind not in COUNTED:
            kinds = ", ".join(map(written, COUNTED))
            raise TsdistillError(
                f"equal widths go with a budget of {kinds}; give one of these, or {written('uniform', False)}"
            )
        limit = budget.absolute(self.graph.figures()[budget.kind])
        pruned = self._copy()
        batches = [to_model(x, self._model) for x, _ in self._prepared]
        masks = [token_mask(x) for x in batches]
        if not any(mask is None or bool(mask.any()) for mask in masks):
            raise TsdistillError(
                "every token of the data is padding (attention_mask is 0 throughout), there is nothing to "
                "fit to; give texts"
            )
        inputs = {stack: self._inputs(self._model, stack, batches) for stack in self._stacks}
        divergence = OutputDivergence(self._model, batches[::PILOT_BATCHES][:DIVERGENCE_BATCHES])
        curves = self._curves(pruned, inputs, masks, divergence)
        kept = uniform_widths(self.graph, curves, self._limits, budget.kind, limit)
        fits: dict[str, ReaderFit] = {}
        for number, stack in enumerate(self._stacks):
            now = inputs[stack] if number == 0 else self._inputs(pruned, stack, batches)
            data = StackData(inputs[stack], now, masks)
            fit = StackFit(stack, self._readers[stack], self._summands[stack], data, self._count(FIT, stack))
            fits |= fit.run(self._model, pruned, kept)
        tell(self._progress, REMOVE)
        removed = {name: np.sort(fit.removed) for name, fit in fits.items()}
        done = cut(pruned, self.graph, removed, self._prepared.example)
        self._describe(done)
        return BlockwiseCut(done, self._plan(budget, fits, kept), len(fits), self._notes(fits))

    def _copy(self) -> nn.Module:
        """A copy of the dense model that shares what is not fitted."""
        layers = [
            self._model.get_submodule(f"{block}.{reader.module}")
            for readers in self._readers.values()
            for reader in readers
            for block in reader.kind.groups
        ]
        own = {id(tensor) for layer in layers for tensor in (*layer.parameters(), *layer.buffers())}
        held = (*self._model.parameters(), *self._model.buffers())
        return deepcopy_model(self._model, {id(tensor): tensor for tensor in held if id(tensor) not in own})

    def _curves(
        self,
        scratch: nn.Module,
        inputs: Mapping[BlockStack, StackInputs],
        masks: Sequence[Tensor | None],
        divergence: OutputDivergence,
    ) -> list[LossCurve]:
        """What each kind of group loses by its width."""
        curves: list[LossCurve] = []
        for stack, readers in self._readers.items():
            data = StackData(inputs[stack], inputs[stack], masks)
            fit = StackFit(stack, readers, self._summands[stack], data, self._count(WIDTHS, stack))
            curves += fit.losses(self._model, scratch, self._limits.floors, divergence.of)
        return curves

    def _inputs(self, model: nn.Module, stack: BlockStack, batches: Sequence[Any]) -> StackInputs:
        def counted() -> Iterator[Any]:
            for number, x in enumerate(batches):
                tell(self._progress, READ, number, len(batches))
                yield x

        return stack_inputs(model, stack, counted())

    def _count(self, stage: str, stack: BlockStack) -> Callable[[int], None]:
        return lambda done: tell(self._progress, stage, done, len(stack.names))

    def _describe(self, done: Cut) -> None:
        """Attach what is known of the smaller model, and write its widths into its configuration."""
        info = replace(info_after(info_of(self._model), done), tokenizer=tokenizer_of(self._model))
        attach(done.model, info)
        if is_transformers(done.model):
            hf_config.set_widths(done.model, shapes_of(dict(self._model.named_parameters())))
            arch = hf_source.spec_of(done.model)
            attach(done.model, replace(info, arch=arch or info.arch))

    def _plan(self, budget: Budget, fits: Mapping[str, ReaderFit], kept: Mapping[str, int]) -> PruningPlan:
        groups = {}
        for group in self.graph.groups:
            fit = fits.get(group.name)
            nodes = () if fit is None else tuple(map(int, fit.removed))
            costs = () if fit is None else tuple(map(float, fit.costs))
            groups[group.name] = PrunedGroup(group.size, nodes, ("cheapest",) * len(nodes), costs)
        return PruningPlan(
            arch=info_of(self._model).arch,
            budget=str(budget),
            keep_strong=True,
            data=self._prepared.description,
            groups=groups,
            before=self.graph.figures(),
            after=self.graph.figures(kept),
        )

    def _notes(self, fits: Mapping[str, ReaderFit]) -> tuple[str, ...]:
        notes = [f"left whole: {cause}" for cause in dict.fromkeys(self._whole)]
        unseen = [fit.unseen for fit in fits.values() if np.isfinite(fit.unseen)]
        if fits and not unseen:
            notes.append("too few samples to choose the ridge on others; give more")
        return tuple(notes)


def _shapes(model: nn.Module, kind: GroupKind) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters once each group of a kind has one node left."""
    shapes = {name: list(p.shape) for name, p in model.named_parameters()}
    for group in kind.groups.values():
        for slot in group.slots:
            if slot.param in shapes:
                shapes[slot.param][slot.dim] -= slot.coords[1:].size
    return {name: tuple(shape) for name, shape in shapes.items()}


def blockwise_stages(samples: int | None) -> dict[str, float]:
    """Stage -> cost in forward passes of one sample."""
    if samples is None:
        return {}
    return {TRACE: 0.0, READ: 1.0 * samples, WIDTHS: _WIDTHS_COST * samples, FIT: _FIT_COST * samples}


_WIDTHS_COST, _FIT_COST = 0.6, 6.0
"""Forward passes a sample, measured on SmolLM2-135M: one pass of some samples with second moments and a
selection in six blocks; a dense pass, three of the smaller model, second moments, and selections."""


def goes_by_blocks(
    model: nn.Module, data: Any, selection: SelectionOptions, budget: Budget | None, **others: bool
) -> bool:
    """Whether a model is pruned block by block: as it was asked for, or else where it is one of transformers
    that reads text, and nothing is asked for that goes with the other way alone.

    Args:
        model: the model.
        data: what it is pruned with.
        selection: which nodes may leave.
        budget: what is kept; ``None`` for what costs nothing.
        others: what is asked for besides, by name (``teacher``, ``rounds``, ``report``, ...), and whether it
            is.

    Raises:
        TsdistillError: equal widths are asked for beside something that they do not go with.
    """
    conflicts = [name for name, stated in others.items() if stated]
    if plugins.name_of(selection.importance) != RECONSTRUCTION:
        conflicts.append("importance")
    if budget is None:
        conflicts.append("lossless")
    if selection.uniform is None:
        if budget is None or budget.kind not in COUNTED:
            return False
        text = data is not None and is_transformers(model) and text_spec(model) is not None
        return text and not conflicts and selection.heads in ("score", "whole")
    if selection.uniform and conflicts:
        raise TsdistillError(
            f"{written('uniform', True)} goes its own way through the model and takes no "
            f"{' and no '.join(map(written, conflicts))}; leave one out"
        )
    return selection.uniform
