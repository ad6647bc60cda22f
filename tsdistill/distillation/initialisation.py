"""Parameters drawn anew, whatever widths a model has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.models import info_of
from tsdistill.models.sources import catalog


def reinitialise(model: nn.Module, seed: int, like: nn.Module | None = None) -> None:
    """Draw all parameters of ``model`` anew, in place; running statistics begin at 0 and 1.

    Every module that has ``reset_parameters`` is asked to; a parameter of another module (a position table, a
    layer scale) is drawn from a normal distribution of the mean and spread that it has in a fresh build of
    the architecture, and of its own in ``like`` where the architecture is not known. The same seed gives the
    same parameters; the global generators stay as they were.

    Args:
        model: the model.
        seed: of the draws.
        like: a model of the same architecture at any width; ``model`` itself without it.
    """
    fresh = _fresh(model)
    known = fresh or dict((like or model).named_parameters())
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(seed)
        for name, module in model.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for leaf, parameter in module.named_parameters(prefix=name, recurse=False):
                _draw(parameter, known.get(leaf, parameter))


def _draw(parameter: Tensor, like: Tensor) -> None:
    values = like.detach().float()
    spread = float(values.std()) if values.numel() > 1 else 0.0
    parameter.normal_().mul_(spread).add_(float(values.mean()))


def _fresh(model: nn.Module) -> Mapping[str, Tensor]:
    """The parameters of a fresh build of the model's architecture; nothing where it is not known."""
    arch = info_of(model).arch
    if arch is None:
        return {}
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return dict(catalog.build(arch, weights=False).model.named_parameters())
    except TsdistillError:
        return {}
