"""Which layer was the first to give NaN or infinity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.nests import tensors


def checked_forward(model: nn.Module, x: Any, role: str, where: str) -> None:
    """Run a model and refuse outputs that are not finite; it runs once more to find out where that began.

    Raises:
        TsdistillError: the forward fails, or gives NaN or infinity: names the first layer that did, and
            ``where`` in the data that was.
    """
    if _finite(forward(model, x, role)):
        return
    layer = _first_broken(model, x)
    what = f"layer {layer!r} of the {role}" if layer else f"the {role}"
    raise TsdistillError(
        f"{what} gives activations that are not finite (NaN or infinity) {where}; check the "
        "weights up to there, the precision and the data"
    )


def _finite(value: Any) -> bool:
    return all(bool(torch.isfinite(y).all()) for y in tensors(value) if y.is_floating_point())


def _first_broken(model: nn.Module, x: Any) -> str | None:
    """The first module, in the order in which they finish, whose output is broken."""
    broken: list[str] = []

    def look(call: ModuleCall) -> None:
        if not broken and isinstance(call.output, Tensor | tuple | list | dict) and not _finite(call.output):
            broken.append(call.name)

    with ModuleHooks({name: module for name, module in model.named_modules() if name}, after=look):
        forward(model, x)
    return broken[0] if broken else None
