"""Residual branches removed from a copy of a model: their modules, parameters and operations are gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.constant_modules import Constant
from tsdistill.models.replacements import Replacement, replace_modules
from tsdistill.runtime.exclusive import without_collector
from tsdistill.runtime.modes import Inputs
from tsdistill.runtime.unchanged import unchanged
from tsdistill.tracing.branch_check import ConstantOutput, branch_disagreement, failing
from tsdistill.tracing.branch_layout import BranchLayout, probes
from tsdistill.tracing.branches import Branch, find_branches
from tsdistill.tracing.data_flow import DataFlow, data_flow
from tsdistill.tracing.graph import Frozen
from tsdistill.tracing.idle_modules import idle_modules
from tsdistill.tracing.model_copy import deepcopy_model

_NAMED = 5
"""Branches that a message names at most."""


@dataclass(frozen=True, eq=False)
class BranchCut:
    """A model without some branches.

    Attributes:
        model: the copy, in the training mode of the original.
        removed: names of the branches that are gone.
        put_back: branches that were to go and are there, and why.
    """

    model: nn.Module
    removed: tuple[str, ...]
    put_back: tuple[Frozen, ...]


@unchanged
@without_collector()
def remove_branches(
    model: nn.Module,
    names: Iterable[str],
    example_input: Inputs,
    *,
    values: Mapping[str, torch.Tensor] | None = None,
) -> BranchCut:
    """Remove residual branches from a copy of ``model``.

    The modules of a branch are replaced by ones without work and parameters (`models.constant_modules`). The
    last one gives constants in place of what it gave: zeros, or ``values``. The copy must give the output of
    the original whose branches give these constants, also for a batch of two and in training mode. A branch
    that fails is left as it is.

    Args:
        model: any module; it is not changed.
        names: of branches, as `trace_branches` has them. Those inside of others go with them.
        example_input: a tensor, a tuple of arguments or a dict of keyword arguments, batch size 1.
        values: name of the last module of a branch (`Branch.last`) -> ``[channels]``, what it gives; zeros
            where there are none.

    Raises:
        TsdistillError: a branch that does not exist, a sum that would lose all its summands, or a forward
            that fails.
    """
    flow = data_flow(model, example_input)
    branches = {branch.name: branch for branch in find_branches(model, flow)}
    chosen = checked_branches(branches, names)
    surgery = _Surgery(model, flow, example_input, values or {})
    wrong = surgery.prepare([branches[name] for name in chosen])
    usable = [name for name in chosen if name not in wrong]
    while usable and (problem := surgery.attempt(usable)) is not None:
        failed = failing(usable, surgery.attempt, problem)
        whole = {name: cause for name, cause in failed.items() if not surgery.fill(branches[name])}
        wrong |= whole
        usable = [name for name in usable if name not in whole]
    put_back = tuple(Frozen(name, cause) for name, cause in wrong.items())
    return BranchCut(surgery.cut(usable), tuple(usable), put_back)


def checked_branches(branches: Mapping[str, Branch], names: Iterable[str]) -> list[str]:
    """``names`` in forward order, without those that lie in others.

    Args:
        branches: of the model, by name.
        names: those that are to go.

    Raises:
        TsdistillError: a branch that does not exist, or all summands of a sum.
    """
    wanted = set(names)
    for name in sorted(wanted - branches.keys()):
        known = ", ".join([*branches][:_NAMED]) + (" ..." if len(branches) > _NAMED else "")
        if not branches:
            raise TsdistillError(f"this model has no residual branch, so none is named {name!r}")
        raise TsdistillError(f"no branch named {name!r} in this model; its branches: {known}")
    outer = [
        name for name in branches if name in wanted and not any(a in wanted for a in _around(branches, name))
    ]
    for name in outer:
        rivals = [rival for rival in branches[name].rivals if rival in outer]
        if rivals:
            raise TsdistillError(
                f"the branches {name} and {rivals[0]} are all that one sum adds; leave one of them, or "
                "remove the branch around them"
            )
    return outer


def _around(branches: Mapping[str, Branch], name: str) -> list[str]:
    around: list[str] = []
    within = branches[name].within
    while within is not None:
        around.append(within)
        within = branches[within].within
    return around


class _Surgery:
    """Removes branches of one model.

    Args:
        model: the whole model.
        flow: of its run on ``example``.
        example: an input of batch 1.
        values: of last modules.
    """

    def __init__(
        self, model: nn.Module, flow: DataFlow, example: Inputs, values: Mapping[str, torch.Tensor]
    ) -> None:
        self._model, self._example, self._values = model, example, values
        self._layout = BranchLayout(flow, list(probes(model, example)))
        self._replacements: dict[str, Sequence[Replacement]] = {}
        self._branches: dict[str, Branch] = {}

    def prepare(self, branches: Iterable[Branch]) -> dict[str, str]:
        """Find out what takes the place of the modules; branches of which nothing can, and why."""
        wrong = {}
        for branch in branches:
            self._branches[branch.name] = branch
            try:
                self._replacements[branch.name] = self._layout.replacements(branch, self._channels(branch))
            except TsdistillError as error:
                wrong[branch.name] = str(error)
        return wrong

    def fill(self, branch: Branch) -> bool:
        """Let the last modules of a branch give tensors of full size; whether that changes anything."""
        before = self._replacements[branch.name]
        with suppress(TsdistillError):
            full = self._layout.replacements(branch, self._channels(branch), spread=False)
            self._replacements[branch.name] = full
        return self._replacements[branch.name] != before

    def _channels(self, branch: Branch) -> dict[str, int]:
        return {name: len(self._values[name]) for name in branch.last if name in self._values}

    def attempt(self, names: Sequence[str]) -> str | None:
        """What is wrong with the model without some branches; ``None`` if nothing is."""
        outputs = {
            each.module: ConstantOutput(each.place, each.axis, self._values.get(each.module))
            for name in names
            for each in self._branches[name].outputs
        }
        try:
            small = self._replaced(names)
        except TsdistillError as error:
            return str(error)
        return branch_disagreement(small, self._model, outputs, self._example)

    def _replaced(self, names: Sequence[str]) -> nn.Module:
        small = deepcopy_model(self._model)
        replace_modules(small, [each for name in names for each in self._replacements[name]])
        for last in (last for name in names for last in self._branches[name].last):
            module = small.get_submodule(last)
            if last in self._values and isinstance(module, Constant):
                assert module.bias is not None
                with torch.no_grad():
                    module.bias.copy_(self._values[last])
        return small

    def cut(self, names: Sequence[str]) -> nn.Module:
        """The model without some branches; blocks in which nothing is left to do are passed through, too."""
        small = self._replaced(names)
        if not names:
            return small
        idle = idle_modules(small, self._example)
        bare = deepcopy_model(small)
        replace_modules(bare, idle)
        return bare if branch_disagreement(bare, small, {}, self._example) is None else small
