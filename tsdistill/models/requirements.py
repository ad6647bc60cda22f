"""Requirements of a model that is run, or traced and changed; a model without them gets a one-line error."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tsdistill.errors import TsdistillError
from tsdistill.torch_private import named_modules_of


def check_runnable(model: Any, role: str = "model") -> None:
    """Refuse what cannot be run at all.

    Args:
        model: what was given as a model.
        role: how messages call it.

    Raises:
        TsdistillError: it is no module, has layers whose widths are not known yet, or weights that are not
            there.
    """
    if not isinstance(model, nn.Module):
        hint = "load its weights into a module" if isinstance(model, dict) else "give a torch.nn.Module"
        raise TsdistillError(f"the {role} is a {type(model).__name__}, not a module; {hint}")
    for name, tensor in _tensors(model):
        if is_lazy(tensor):
            raise TsdistillError(
                f"the {role} has lazy layers, the shape of {name} is not known; run it once on an input"
            )
        if tensor.device.type == "meta":
            raise TsdistillError(
                f"the {role} has no weights: {name} is on the meta device; load them before (to_empty and "
                "load_state_dict, or build the model on a real device)"
            )


def check_open(model: Any, role: str = "model") -> None:
    """Refuse what cannot be traced, cut or trained layer by layer.

    Raises:
        TsdistillError: see `check_runnable`; or it is scripted or exported as a whole, it or a part of it is
            compiled, or it holds sparse tensors.
    """
    check_runnable(model, role)
    if isinstance(model, torch.jit.ScriptModule):
        raise TsdistillError(
            f"the {role} is scripted as a whole ({type(model).__name__}), its layers cannot be changed; give "
            "the module that it was made from"
        )
    if isinstance(model, torch.fx.GraphModule) and "eval" in vars(model):  # exported ones have no modes
        raise TsdistillError(f"the {role} is an exported program; give the module that it was made from")
    for name, module in named_modules_of(model):
        if _compiled(module):
            raise TsdistillError(
                f"the {role}{f' has a compiled module, {name}' if name else ' is compiled'} (torch.compile); "
                "hooks do not see its layers; give the module that it was made from and compile the result"
            )
    for name, tensor in _tensors(model):
        if tensor.layout is not torch.strided:
            raise TsdistillError(
                f"the {role} holds a sparse tensor, {name} ({tensor.layout}); make it dense (to_dense) before"
            )


def _compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` returned ``module``, or ``module.compile()`` was called."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())
