"""Values that are not finite: whether there are any, and which layer was the first to give them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.nests import tensors


def checked_forward(model: nn.Module, x: Any, role: str, where: str) -> Any:
    """Run a model and refuse outputs that are not finite; it runs once more to find out where that began.

    Args:
        model: the module.
        x: a batch.
        role: how messages call the model.
        where: which part of the data this is, for the message.

    Returns:
        what the model returned.

    Raises:
        TsdistillError: the forward fails, or gives NaN or infinity: names the first layer that did, and
            ``where`` in the data that was.
    """
    outputs = forward(model, x, role)
    if non_finite(outputs) is None:
        return outputs
    layer = _first_broken(model, x)
    what = f"layer {layer!r} of the {role}" if layer else f"the {role}"
    raise TsdistillError(
        f"{what} gives activations that are not finite (NaN or infinity) {where}; check the "
        "weights up to there, the precision and the data"
    )


def non_finite(value: Any) -> str | None:
    """``"NaN"`` or ``"infinite values"``, which a tensor in a nest holds; ``None`` where all are finite."""
    for tensor in tensors(value):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return "NaN" if bool(torch.isnan(tensor).any()) else "infinite values"
    return None


def _first_broken(model: nn.Module, x: Any) -> str | None:
    """The first module, in the order in which they finish, whose output is broken."""
    broken: list[str] = []

    def look(call: ModuleCall) -> None:
        if (
            not broken
            and isinstance(call.output, Tensor | tuple | list | dict)
            and non_finite(call.output) is not None
        ):
            broken.append(call.name)

    with ModuleHooks({name: module for name, module in model.named_modules() if name}, after=look):
        forward(model, x)
    return broken[0] if broken else None
