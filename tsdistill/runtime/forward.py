"""Running somebody else's models: nothing of them changes, and their failures become one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.options.option_fields import written
from tsdistill.runtime import modes
from tsdistill.runtime.nests import cut, moved, shapes, tensors

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
    """Tensors of ``x``, whatever its form, on the model's device, floating ones in its precision."""
    return moved(x, *placement(model))


def forward(model: nn.Module, x: Any, role: str = "model") -> Any:
    """``model(x)`` where the model is; entries of a tuple are positional arguments, those of a mapping
    keyword arguments; a list (of samples) is one argument.

    Args:
        model: the module.
        x: a batch.
        role: how messages call the model.

    Raises:
        TsdistillError: the forward pass fails; names ``role``, the shapes that went in and the cause.
    """
    x = to_model(x, model)
    try:
        return modes.call(model, x)
    except TsdistillError:
        raise
    except Exception as error:  # a forward pass may raise anything
        mode = " in train mode" if model.training else ""
        way_out = (
            f"give batches of another size ({written('batch_size')}) or a model that trains on such "
            "inputs alone"
            if model.training
            else f"see that data and {written('input_size')} fit the model"
        )
        raise modes.forward_failure(
            error, f"the {role}'s forward fails{mode} on an input {shapes(x)}: {cause_of(error)}; {way_out}"
        ) from error


def head(x: Any, samples: int) -> Any:
    """A batch cut down to its first ``samples`` samples, batch dimension kept."""
    return cut(x, 0, samples)


def main_output(output: Any) -> Tensor:
    """The tensor that an output is judged by: ``logits`` or ``out`` of a mapping, else its first floating
    tensor.

    Raises:
        TsdistillError: there is none.
    """
    tensor = _first_floating(output)
    if tensor is None:
        raise TsdistillError(
            f"the model returns a {type(output).__name__} without a floating tensor to evaluate"
        )
    return tensor


def _first_floating(output: Any) -> Tensor | None:
    if isinstance(output, Mapping):
        keys = [key for key in PREFERRED if key in output] + list(output)
        return next((t for key in keys if (t := _first_floating(output[key])) is not None), None)
    named = () if isinstance(output, (Tensor, tuple, list)) else PREFERRED
    attributes = (getattr(output, name, None) for name in named)
    first = next((a for a in attributes if isinstance(a, Tensor) and a.is_floating_point()), None)
    return first if first is not None else next((t for t in tensors(output) if t.is_floating_point()), None)
