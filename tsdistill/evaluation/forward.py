"""Running somebody else's models: nothing of them changes, and their failures become one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.models.attention import any_widths
from tsdistill.runtime.exclusive import exclusive
from tsdistill.tracing import runtime
from tsdistill.tracing.module_state import state_restored

PREFERRED = ("logits", "out", "last_hidden_state")
"""Names under which outputs keep the tensor that they are judged by."""


def placement(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device of a model's first parameter or buffer and its first parameter's floating type (CPU and float32
    without one)."""
    first = next((tensor for kind in (model.parameters(), model.buffers()) for tensor in kind), None)
    device = torch.device("cpu") if first is None else first.device
    floating = next((p for p in model.parameters() if p.is_floating_point()), None)
    return (device, torch.float32) if floating is None else (floating.device, floating.dtype)


def to_model(x: Any, model: nn.Module) -> Any:
    """Tensors of ``x`` (a tensor, tuple, list or mapping) on the model's device, floating ones in its
    precision."""
    return _move(x, *placement(model))


def _move(x: Any, device: torch.device, precision: torch.dtype) -> Any:
    if isinstance(x, Tensor):
        return x.to(device, precision) if x.is_floating_point() else x.to(device)
    if isinstance(x, Mapping):
        return {key: _move(value, device, precision) for key, value in x.items()}
    if isinstance(x, list):
        return [_move(value, device, precision) for value in x]
    if isinstance(x, tuple):
        return tuple(_move(value, device, precision) for value in x)
    return x


def forward(model: nn.Module, x: Any, role: str = "model") -> Any:
    """``model(x)`` where the model is; entries of a tuple are positional arguments, those of a mapping
    keyword arguments; a list (of samples) is one argument.

    Raises:
        TsdistillError: the forward pass fails; names ``role``, the shapes that went in and the cause.
    """
    x = to_model(x, model)
    try:
        return runtime.call(model, x)
    except TsdistillError:
        raise
    except Exception as error:  # a forward pass may raise anything
        place = runtime.own_fault(error)
        if place is not None:
            raise runtime.OwnFault(f"{runtime.first_line(error)} in {place}") from error
        cause = " ".join(str(error).split())[:300]
        raise TsdistillError(
            f"the {role}'s forward fails on an input {shapes(x)}: {type(error).__name__}: {cause}; "
            "see that data and --input-size (input_size=) fit the model"
        ) from error


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest of tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def count(x: Any) -> int:
    """Number of samples in a batch: entries of a list, else the first dimension of its first tensor."""
    if isinstance(x, list):
        return len(x)
    first = next(tensors(x), None)
    return 0 if first is None or first.ndim == 0 else first.shape[0]


def head(x: Any, samples: int) -> Any:
    """A batch cut down to its first ``samples`` samples, batch dimension kept.

    Tensors whose first dimensions differ (the nodes of a graph beside its edges) are no samples side by side:
    they stay whole.
    """
    if not isinstance(x, list):
        sides = {len(t) for t in tensors(x) if t.ndim}
        if len(sides - {1}) > 1:
            return x
    if isinstance(x, Tensor):
        return x[:samples]
    if isinstance(x, Mapping):
        return {key: head(value, samples) for key, value in x.items()}
    if isinstance(x, list):
        return x[:samples]
    if isinstance(x, tuple):
        return tuple(head(value, samples) for value in x)
    return x


def batched(x: Any, samples: int) -> Any:
    """An example of batch 1 repeated to a batch of ``samples``: tensors along their first dimension, entries
    of a list.
    """
    if isinstance(x, Tensor):
        return x.repeat(samples, *[1] * (x.ndim - 1)) if x.ndim and len(x) == 1 else x
    if isinstance(x, Mapping):
        return {key: batched(value, samples) for key, value in x.items()}
    if isinstance(x, list):
        return x * samples if len(x) == 1 else x
    if isinstance(x, tuple):
        return tuple(batched(value, samples) for value in x)
    return x


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
        keys = [key for key in PREFERRED if key in output] + list(output)
        return next((t for key in keys if (t := _first_floating(output[key])) is not None), None)
    if isinstance(output, (tuple, list)):
        return next((t for item in output if (t := _first_floating(item)) is not None), None)
    attributes = (getattr(output, name, None) for name in PREFERRED)
    return next((a for a in attributes if isinstance(a, Tensor) and a.is_floating_point()), None)


@contextmanager
def at_rest(*models: nn.Module, fast: bool = False) -> Iterator[None]:
    """Evaluation mode and no gradients for the parameters inside the block; everything is put back after it.

    So is the state that modules keep of a forward (`tracing.module_state`), which every forward inside
    begins anew, unless ``fast``.

    The fused path of ``nn.TransformerEncoderLayer`` and ``nn.MultiheadAttention``'s own way to its last
    layer, which skip the submodules' hooks, are off inside unless ``fast``.
    """
    training = {module: module.training for model in models for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for model in models for parameter in model.parameters()}
    with exclusive(), runtime.plain_attention(fast), ExitStack() as stack:
        try:
            for model in models:
                model.eval()
                if not fast:
                    stack.enter_context(any_widths(model.modules()))
                stack.enter_context(state_restored(model, each=not fast))
            for parameter in wanted:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, flag in training.items():
                module.training = flag
            for parameter, flag in wanted.items():
                parameter.requires_grad_(flag)
