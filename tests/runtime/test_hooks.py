"""Hooks on modules are there inside a block, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsdistill.runtime.hooks import InputHooks, ModuleCall, ModuleHooks


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU())


def _hooked(model: nn.Module) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_calls_carry_name_arguments_and_output() -> None:
    model, calls = _net(), list[ModuleCall]()
    x = torch.ones(1, 2)
    with ModuleHooks({"first": model[0]}, before=calls.append, after=calls.append):
        model(x)
    before, after = calls
    assert before.name == after.name == "first"
    assert before.first is x
    assert before.output is None
    assert torch.equal(after.output, model[0](x))


def test_inputs_and_outputs_are_replaced() -> None:
    model, x = _net(), torch.ones(1, 2)

    def twice(call: ModuleCall) -> Any:
        return (2 * call.first,), call.kwargs

    with ModuleHooks({"0": model[0]}, before=twice):
        doubled = model(x)
    assert torch.equal(doubled, model(2 * x))
    with ModuleHooks({"1": model[1]}, after=lambda call: call.output + 1):
        raised = model(x)
    assert torch.equal(raised, model(x) + 1)


def test_hooks_are_gone_after_a_failure_and_come_again() -> None:
    model, calls = _net(), list[ModuleCall]()
    hooks = ModuleHooks(dict(model.named_modules()), after=calls.append)
    with pytest.raises(RuntimeError), hooks:
        model(torch.ones(1, 3))
    assert not _hooked(model)
    with hooks:
        model(torch.ones(1, 2))
    assert [call.name for call in calls] == ["0", "1", ""]
    assert not _hooked(model)


def test_a_model_with_scripted_parts_can_be_watched() -> None:
    class Part(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    model, calls = nn.Sequential(torch.jit.script(Part()), nn.ReLU()), list[ModuleCall]()
    with ModuleHooks(dict(model.named_modules()), before=calls.append, after=calls.append):
        model(torch.ones(1, 2))
    assert {call.name for call in calls} == {"", "1"}


def test_looks_chain_and_read_inputs_given_by_name() -> None:
    model, x = _net(), torch.ones(1, 2)
    with InputHooks(model, {"0": [lambda t: 2 * t, lambda t: t + 1], "absent": [lambda t: t]}):
        by_place, by_name = model[0](x), model[0](input=x)
    assert torch.equal(by_place, model[0](2 * x + 1))
    assert torch.equal(by_name, by_place)
