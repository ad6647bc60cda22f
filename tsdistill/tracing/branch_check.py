"""A model without branches is compared with the whole one in which the branches give the same constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import Inputs, plain_evaluation, run
from tsdistill.runtime.nests import repeated
from tsdistill.tracing.model_copy import deepcopy_model
from tsdistill.tracing.output_tolerance import STRICT, difference

_ANY = float("inf")
"""Tolerance where outputs are random: shapes are compared, and that values are finite."""


@dataclass(frozen=True, eq=False)
class ConstantOutput:
    """What a module gives in place of what it computes.

    Attributes:
        place: which of its outputs is replaced, where it gives several.
        axis: the dimension of channels.
        values: one for each channel, ``None`` for zeros.
    """

    place: int
    axis: int
    values: torch.Tensor | None

    def replace(self, output: Any) -> Any:
        """``output`` with the constant in it."""
        if not isinstance(output, torch.Tensor):
            items = [self.replace(x) if place == self.place else x for place, x in enumerate(output)]
            return type(output)(items)
        if self.values is None:
            return torch.zeros_like(output)
        shape = [1] * output.ndim
        shape[self.axis] = -1
        return torch.zeros_like(output) + self.values.to(output.device, output.dtype).reshape(shape)


def constant_outputs(model: nn.Module, outputs: Mapping[str, ConstantOutput]) -> ModuleHooks:
    """Let modules of ``model`` give constants inside the block."""

    def replace(call: ModuleCall) -> Any:
        return outputs[call.name].replace(call.output)

    return ModuleHooks({name: model.get_submodule(name) for name in outputs}, after=replace)


def branch_disagreement(
    small: nn.Module, model: nn.Module, outputs: Mapping[str, ConstantOutput], example: Inputs
) -> str | None:
    """What differs between ``small`` and ``model`` whose branches give constants; ``None`` if nothing does.

    Both run on the example, on the example twice, and in training mode; what ``model`` itself cannot do is
    not asked of ``small``.

    Args:
        small: the model without the branches.
        model: the whole model.
        outputs: by name of a module of ``model``, what it gives in its place.
        example: an input of batch 1.
    """
    for inputs, training, where in _runs(example):
        if training:  # which changes the statistics of norms
            small, model = deepcopy_model(small), deepcopy_model(model)
        with constant_outputs(model, outputs):
            wanted, random = _reference(model, inputs, training)
        if wanted is None:
            continue
        try:
            with plain_evaluation(small, training=training):
                output = run(small, inputs)
        except TsdistillError as error:
            return f"{error}{where}"
        unlike = difference(output, wanted, _ANY if random else STRICT)
        if unlike is not None:
            return f"{unlike}{where}"
    return None


def _runs(example: Inputs) -> Iterator[tuple[Inputs, bool, str]]:
    twice = repeated(example, 2)
    yield example, False, ""
    yield twice, False, " (at batch 2)"
    yield twice, True, " (in training mode)"


def _reference(model: nn.Module, inputs: Inputs, training: bool) -> tuple[list[torch.Tensor] | None, bool]:
    """The outputs of the whole model, ``None`` where its forward fails; and whether they are random, as where
    functions drop values (the whole model calls more of them)."""
    with suppress(TsdistillError), plain_evaluation(model, training=training):
        outputs = run(model, inputs)
        if not training:
            return outputs, False
        torch.manual_seed(1)
        return outputs, difference(run(model, inputs), outputs, STRICT) is not None
    return None, False


Attempt = Callable[[list[str]], str | None]
"""Tries to remove branches together; gives what is wrong with the result."""


def failing(names: list[str], attempt: Attempt, problem: str) -> dict[str, str]:
    """The branches that cannot be removed, with the cause; found by halving.

    Args:
        names: branches whose removal fails together.
        attempt: removes some of them.
        problem: what is wrong with the removal of all of them.
    """
    if len(names) == 1:
        return {names[0]: problem}
    half = len(names) // 2
    wrong: dict[str, str] = {}
    for part in (names[:half], names[half:]):
        cause = attempt(part)
        if cause is not None:
            wrong |= failing(part, attempt, cause)
    return wrong or dict.fromkeys(names, f"only together with others: {problem}")
