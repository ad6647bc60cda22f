"""Running models on batches, whatever their inputs and outputs are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.tracing import runtime

_PREFERRED = ("logits", "out", "last_hidden_state")


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter or buffer; the CPU when it has none."""
    first = next(itertools.chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def to_model(x: Any, model: nn.Module) -> Any:
    """Tensors of ``x`` (a tensor, tuple, list or mapping) on the model's device, floating ones in its
    precision."""
    precision = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return _move(x, device_of(model), precision)


def _move(x: Any, device: torch.device, precision: torch.dtype) -> Any:
    if isinstance(x, Tensor):
        return x.to(device, precision) if x.is_floating_point() else x.to(device)
    if isinstance(x, Mapping):
        return {key: _move(value, device, precision) for key, value in x.items()}
    if isinstance(x, (tuple, list)):
        return type(x)(_move(value, device, precision) for value in x)
    return x


def call(model: nn.Module, x: Any) -> Any:
    """``model(x)``; the entries of a tuple are positional arguments, those of a mapping keyword arguments.

    Raises:
        TsdistillError: the forward pass fails; the message has its cause in one line.
    """
    x = to_model(x, model)
    try:
        return runtime.call(model, x)
    except Exception as error:  # a forward pass may raise anything
        cause = " ".join(str(error).split())[:300]
        raise TsdistillError(
            f"the forward pass of {type(model).__name__} fails on inputs {shapes(x)}:"
            f" {type(error).__name__}: {cause};"
            " see that data and --input-size (input_size=) fit the model"
        ) from error


def shapes(x: Any) -> str:
    """The shapes in ``x``, for messages."""
    if isinstance(x, Tensor):
        return f"of shape {tuple(x.shape)}"
    if isinstance(x, Mapping):
        return ", ".join(f"{key} {shapes(value)}" for key, value in x.items())
    if isinstance(x, (tuple, list)):
        return ", ".join(shapes(value) for value in x)
    return type(x).__name__


def main_output(output: Any) -> Tensor:
    """The tensor that an output is judged by: ``logits`` or ``out`` of a mapping, else its first floating
    tensor.

    Raises:
        TsdistillError: there is none.
    """
    found = _first_floating(output)
    if found is None:
        raise TsdistillError(
            f"the model returns a {type(output).__name__} without a floating tensor to evaluate"
        )
    return found


def _first_floating(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, Mapping):
        keys = [key for key in _PREFERRED if key in output] + list(output)
        return next((t for key in keys if (t := _first_floating(output[key])) is not None), None)
    if isinstance(output, (tuple, list)):
        return next((t for item in output if (t := _first_floating(item)) is not None), None)
    attributes = (getattr(output, name, None) for name in _PREFERRED)
    return next((a for a in attributes if isinstance(a, Tensor) and a.is_floating_point()), None)


@contextmanager
def resting(*models: nn.Module) -> Iterator[None]:
    """The models in evaluation mode, without gradients; afterwards every module is as it was."""
    before = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training
