"""Forward passes of a user's model: nothing of it changes, and a failure becomes one line."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.options.option_fields import written
from tsdistill.runtime import modes
from tsdistill.runtime.nests import cut, moved, shapes


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
