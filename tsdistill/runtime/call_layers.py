"""Function calls of a model as layers, and how the weights that a forward computes for them can be set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import ComputedCall
from tsdistill.models.layers.computed_weights import SourceSolver, source_solvers
from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.models.layers.product_calls import calls_as_layers
from tsdistill.models.widths import sync_module
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.module_state import graphed_tensors

P = ParamSpec("P")
R = TypeVar("R")


class _Prepared(Protocol):
    """Data of a model, opened."""

    @property
    def example(self) -> Any:
        """An input of batch 1."""


D = TypeVar("D", bound=_Prepared)


def observing_calls(
    function: Callable[Concatenate[nn.Module, nn.Module | None, D, P], R],
) -> Callable[Concatenate[nn.Module, nn.Module | None, D, P], R]:
    """Run ``function(model, teacher, prepared, ...)`` inside `call_layers` of the model."""

    @wraps(function)
    def called(
        model: nn.Module, teacher: nn.Module | None, prepared: D, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        with call_layers(model, prepared.example):
            return function(model, teacher, prepared, *args, **kwargs)

    return called


@contextmanager
def call_layers(model: nn.Module, example: Any) -> Iterator[None]:
    """``F.linear(x, self.w)`` and its like are submodules of ``model`` inside the block (`calls_as_layers`).

    Args:
        model: the model; behind the block it is as it was.
        example: an input of batch 1.

    Raises:
        TsdistillError: the forward fails.
    """

    def run() -> None:
        with evaluation_mode(model), torch.no_grad():
            forward(model, example)

    with calls_as_layers(model, run):
        find_settings(model, example)
        yield


_EXACT = 1e-4
"""How far, relative to its largest entry, what the forward computes may be from the weight that was set."""


_OTHERS = 3
"""Settings that are tried for one weight."""


def find_settings(model: nn.Module, example: Any) -> None:
    """Find out how the computed weights of calls that are layers (`ComputedCall`) can be set, with the
    parameters as they are now (`ComputedCall.setting`).

    A setting is one only where a weight that is set through it is what the forward then computes, and no
    other computed weight has changed.

    Args:
        model: with call layers (`call_layers`); its parameters are left as they are.
        example: an input of batch 1.

    Raises:
        TsdistillError: the forward fails.
    """
    calls = _calls(model)
    if not calls:
        return
    with evaluation_mode(model), torch.no_grad():
        forward(model, example)
    for layer in calls.values():
        sync_module(layer)
    held = (tensor for module in model.modules() for tensor in graphed_tensors(module))
    twin = copy.deepcopy(model, {id(tensor): tensor.detach().clone() for tensor in held})
    weights = _graphed_weights(twin, example)
    for name, layer in calls.items():
        layer.setting = None
        if name not in weights:
            continue
        sources = {each: twin.get_parameter(each) for each in layer.sources}
        floating = {each: p for each, p in sources.items() if p.is_floating_point()}
        for _, setting in source_solvers(layer, weights[name], floating)[:_OTHERS]:
            if _holds(twin, name, setting, example):
                layer.setting = setting
                break
    del weights


def _calls(model: nn.Module) -> dict[str, ComputedCall]:
    return {name: module for name, module in model.named_modules() if isinstance(module, ComputedCall)}


def _graphed_weights(model: nn.Module, example: Any) -> dict[str, Tensor]:
    """The weights of the calls of ``model``, each on its autograd graph."""
    weights: dict[str, Tensor] = {}

    def look(call: ModuleCall) -> None:
        weight = call.module.weight
        assert isinstance(weight, Tensor)
        weights[call.name] = weight

    with ModuleHooks(_calls(model), before=look), evaluation_mode(model), torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        forward(model, example)
    return weights


def _holds(model: nn.Module, name: str, setting: SourceSolver, example: Any) -> bool:
    """Whether the weight of one call becomes what is set, and no other does; ``model`` is left as it was."""
    calls = _calls(model)
    before = {other: each.weight.clone() for other, each in calls.items()}  # some are views
    layer, parameter = calls[name], model.get_parameter(setting.source)
    wanted = _other_weight(layer, setting)
    old = parameter.detach().clone()
    new = setting.solve(old, before[name], wanted)
    with torch.no_grad():
        parameter.copy_(new)
    try:
        with evaluation_mode(model), torch.no_grad():
            forward(model, example)
        aims = {**before, name: wanted}
        return all(_equal(each.weight, aims[other]) for other, each in calls.items())
    finally:
        with torch.no_grad():
            parameter.copy_(old)
        for other, each in calls.items():
            each.set(before[other])


def _other_weight(layer: ComputedCall, setting: SourceSolver) -> Tensor:
    """Another weight of the layer: any, or one whose inputs are mixtures of those of the present one."""
    weight, kind, generator = layer.weight, kind_of(layer), torch.Generator().manual_seed(0)
    if setting.any_weight or kind is None:
        noise = torch.randn(weight.shape, generator=generator).to(weight)
        return weight + weight.abs().mean() * noise
    dim = 1 - kind.output_dim
    width = weight.shape[dim]
    mix = torch.eye(width) + torch.randn(width, width, generator=generator) / width**0.5
    return (weight.movedim(dim, -1) @ mix.to(weight)).movedim(-1, dim)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= _EXACT * other.abs().max())
