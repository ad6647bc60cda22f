"""Modules that give one of their arguments as it is: what is left of a block whose branches are gone."""

from __future__ import annotations

from torch import nn

from tsdistill.models.constant_modules import Constant, PassThrough
from tsdistill.models.replacements import Replacement
from tsdistill.runtime.modes import Inputs
from tsdistill.tracing.data_flow import DataFlow, FlowCall, data_flow
from tsdistill.tracing.trace_aligner import operator_kind

_IDEMPOTENT = frozenset(("relu", "relu_"))
"""Operators that leave alone what they gave."""

_ZERO_KEPT = frozenset(
    ("mul", "mul_", "expand", "view", "permute", "transpose", "clone", "_to_copy", "detach", "t")
)
"""Operators of zeros that give zeros."""

_SAME = frozenset(("clone", "detach", "alias"))
"""Operators that give what they read."""


def idle_modules(model: nn.Module, example: Inputs) -> list[Replacement]:
    """The largest modules that do nothing but give one argument, each with what takes its place.

    Sums with the zeros of a `Constant`, and a ReLU of what a ReLU gave, count as nothing.

    Args:
        model: a model without some branches.
        example: an input of batch 1.
    """
    kept = {name for name, module in model.named_modules() if isinstance(module, Constant | PassThrough)}
    zeros = {n for n in kept if isinstance(c := model.get_submodule(n), Constant) and c.bias is None}
    flow = data_flow(model, example)
    same = _origins(flow, zeros)
    idle: dict[str, Replacement] = {}
    for name, calls in flow.calls_of.items():
        sources = {_passed(call, same) for call in calls}
        source = sources.pop() if len(sources) == 1 else None
        if source is not None and any(inner.startswith(f"{name}.") for inner in kept):
            idle[name] = Replacement(name, source, passes=True)
    return [each for name, each in idle.items() if not any(name.startswith(f"{outer}.") for outer in idle)]


def _origins(flow: DataFlow, zeros: set[str]) -> list[int]:
    """For every step the first one whose result is the same; -1 for zeros."""
    origins: list[int] = []
    for number, step in enumerate(flow.steps):
        read = [origins[source] for source in step.sources]
        kind = operator_kind(step.op)
        origin = number
        if step.module in zeros or (kind in _ZERO_KEPT and -1 in read):
            origin = -1
        elif step.sides and -1 in read:
            others = [origins[s] for side in step.sides for s in side if origins[s] != -1]
            origin = others[0] if len(others) == 1 and flow.steps[others[0]].shape == step.shape else number
        elif kind in _SAME and len(read) == 1:
            origin = read[0]
        elif kind in _IDEMPOTENT and len(read) == 1 and read[0] >= 0:
            origin = (
                read[0] if operator_kind(flow.steps[read[0]].op).rstrip("_") == kind.rstrip("_") else number
            )
        origins.append(origin)
    return origins


def _passed(call: FlowCall, origins: list[int]) -> int | str | None:
    """The argument that a call gives as it is."""
    if call.form != "tensor" or call.outputs[0] is None or call.outputs[0].step is None:
        return None
    output = call.outputs[0]
    assert output.step is not None
    for key, operand in call.inputs.items():
        if operand.step is None or operand.shape != output.shape:
            continue
        if origins[operand.step] == origins[output.step] >= 0:
            return key
    return None
