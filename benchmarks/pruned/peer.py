"""Torch-Pruning, driven as its own scripts drive it.

Its ``reproduce/main.py`` prunes in 400 small steps toward a ratio of 1, ranking anew after each, until the
operations asked for are reached; one such walk passes every budget. Its
``examples/transformers/prune_timm_vit.py`` says how attention is to be treated, and where gradients come
from. Importance objects have their defaults.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 400
"""Steps of a walk."""


@dataclass(frozen=True)
class Criterion:
    """One way in which Torch-Pruning ranks channels.

    Attributes:
        title: what the table calls it.
        make: the importance object, from the module ``torch_pruning.importance``.
        gradients: ``"sum"`` of the loss over the calibration images (Taylor), mean ``"square"`` of every
            image's own (Hessian), or none.
    """

    title: str
    make: Callable[[Any], Any]
    gradients: str = ""


CRITERIA = {
    "l1": Criterion("magnitude L1", lambda i: i.GroupMagnitudeImportance(p=1)),
    "l2": Criterion("magnitude L2", lambda i: i.GroupMagnitudeImportance(p=2)),
    "bn": Criterion("BN scale", lambda i: i.BNScaleImportance()),
    "lamp": Criterion("LAMP", lambda i: i.LAMPImportance()),
    "fpgm": Criterion("FPGM", lambda i: i.FPGMImportance()),
    "taylor": Criterion("Taylor", lambda i: i.GroupTaylorImportance(), "sum"),
    "hessian": Criterion("Hessian", lambda i: i.GroupHessianImportance(), "square"),
    "random": Criterion("random", lambda i: i.RandomImportance()),
}

SCOPES: dict[str, dict[str, bool]] = {
    "local": {"global_pruning": False},
    "global": {"global_pruning": True},
    "isomorphic": {"global_pruning": True, "isomorphic": True},
    "bottleneck": {"global_pruning": False},
    "local-once": {"global_pruning": False},
    "global-once": {"global_pruning": True},
}
"""How channels compete: within a layer (one ratio for all), among all layers, among layers of one kind
(what its authors advise for transformers); ``bottleneck`` is local without the stream's width. ``-once``
prunes in one step, to a ratio that is searched for."""


def installed() -> str | None:
    """The version of Torch-Pruning, ``None`` when there is none."""
    try:
        return version("torch-pruning")
    except PackageNotFoundError:
        return None


def gradients(model: nn.Module, kind: str, x: Tensor, y: Tensor) -> None:
    """Leave in every parameter's ``grad`` what a criterion wants to find there.

    Torch-Pruning 1.6.1's own accumulation of squares (``GroupHessianImportance.accumulate_grad``) compares
    names with tensors and so keeps the last image only; here all images count, as is meant.
    """
    model.zero_grad()
    if kind == "sum":
        for some, labels in zip(x.split(64), y.split(64), strict=True):
            F.cross_entropy(model(some), labels).backward()
    elif kind == "square":
        squares = [torch.zeros_like(parameter) for parameter in model.parameters()]
        for some, labels in zip(x.split(1), y.split(1), strict=True):
            model.zero_grad()
            F.cross_entropy(model(some), labels).backward()
            for total, parameter in zip(squares, model.parameters(), strict=True):
                if parameter.grad is not None:
                    total.add_(parameter.grad.square(), alpha=1 / len(x))
        for total, parameter in zip(squares, model.parameters(), strict=True):
            parameter.grad = total


def walk(
    dense: nn.Module, criterion: str, scope: str, budgets: Sequence[float], x: Tensor, y: Tensor, seed: int
) -> Iterator[tuple[float, nn.Module]]:
    """Prune a copy; yields ``(budget, model)`` in falling order of the budget.

    The model is the one whose MACs are nearest to the budget, from above or below; groups of a step are
    pruned one after the other and a budget may lie between two.

    Args:
        dense: left as it was.
        criterion: one of ``CRITERIA``.
        scope: one of ``SCOPES``.
        budgets: parts of the MACs to keep.
        x: calibration images; the first one also traces the model.
        y: their labels, for criteria that use gradients.
        seed: of the random criterion.

    Raises:
        RuntimeError: the walk ends before a budget is reached.
        Exception: whatever Torch-Pruning raises.
    """
    graded = copy.deepcopy(dense).eval()
    for parameter in graded.parameters():
        parameter.requires_grad_(True)
    if CRITERIA[criterion].gradients:
        gradients(graded, CRITERIA[criterion].gradients, x, y)
    meter = Meter(dense, x[:1])
    torch.manual_seed(seed)
    if scope.endswith("-once"):
        for budget in sorted(budgets, reverse=True):
            yield budget, _once(graded, criterion, scope, budget, meter, x[:1])
    else:
        yield from _stepwise(graded, criterion, scope, budgets, meter, x[:1])


def _stepwise(
    model: nn.Module, criterion: str, scope: str, budgets: Sequence[float], meter: Meter, example: Tensor
) -> Iterator[tuple[float, nn.Module]]:
    whole = meter.macs(model)
    pruner = _pruner(model, criterion, scope, example, 1.0, STEPS)
    left = sorted(budgets, reverse=True)
    kept, before = 1.0, None
    for _ in range(STEPS):
        for group in pruner.step(interactive=True):
            if kept < left[0] + 0.05:
                before = (kept, copy.deepcopy(model))
            group.prune()
            _repair(model)
            kept = meter.macs(model) / whole
            while left and kept <= left[0]:
                above = before is not None and before[0] - left[0] < left[0] - kept
                yield left.pop(0), before[1] if above and before else copy.deepcopy(model)
            if not left:
                return
    raise RuntimeError(f"nothing is left to prune at {kept:.3f} of the MACs")


def _once(
    model: nn.Module, criterion: str, scope: str, budget: float, meter: Meter, example: Tensor
) -> nn.Module:
    """The model whose MACs come nearest to the budget, of a bisection of the ratio."""
    whole = meter.macs(model)
    low, high, found = 0.0, 1.0, (1.0, model)
    for _ in range(10):
        tried = copy.deepcopy(model)
        for ours, theirs in zip(tried.parameters(), model.parameters(), strict=True):
            ours.grad = None if theirs.grad is None else theirs.grad.clone()
        middle = (low + high) / 2
        _pruner(tried, criterion, scope, example, middle, 1).step()
        _repair(tried)
        kept = meter.macs(tried) / whole
        found = min(found, (kept, tried), key=lambda each: abs(each[0] - budget))
        low, high = (middle, high) if kept > budget else (low, middle)
    if abs(found[0] - budget) > 0.1:
        raise RuntimeError(f"no ratio comes near: {found[0]:.3f} of the MACs is the nearest")
    return found[1]


def _pruner(model: nn.Module, criterion: str, scope: str, example: Tensor, ratio: float, steps: int) -> Any:
    import torch_pruning

    ignored: list[Any] = [m for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    if scope == "bottleneck":
        ignored += [m.fc2 for m in model.modules() if hasattr(m, "fc2")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch_pruning.pruner.BasePruner(
            model,
            example,
            importance=CRITERIA[criterion].make(torch_pruning.importance),
            pruning_ratio=ratio,
            iterative_steps=steps,
            ignored_layers=ignored,
            num_heads={m.qkv: m.num_heads for m in _attentions(model)},
            in_channel_groups={},
            out_channel_groups={},
            **SCOPES[scope],
        )


def _attentions(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if hasattr(m, "qkv") and hasattr(m, "num_heads")]


def _repair(model: nn.Module) -> None:
    """The sizes that attention modules keep as attributes; head sizes shrink, heads stay."""
    for attention in _attentions(model):
        attention.attn_dim = attention.qkv.out_features // 3
        attention.head_dim = attention.attn_dim // attention.num_heads


class Meter:
    """MACs of a network whose widths change and whose maps do not: counted from shapes, since a walk asks
    hundreds of times.

    Args:
        model: run once, to see at how many positions each layer is applied.
        example: one input.
    """

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        self._positions: dict[str, int] = {}
        handles = []
        for name, module in model.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                handles.append(module.register_forward_hook(self._seen(name)))
        with torch.no_grad():
            model(example)
        for handle in handles:
            handle.remove()

    def _seen(self, name: str) -> Callable[[Any, Any, Tensor], None]:
        def hook(module: Any, _: Any, output: Tensor) -> None:
            self._positions[name] = output.numel() // module.weight.shape[0]

        return hook

    def macs(self, model: nn.Module) -> int:
        """Multiply-accumulates of ``model``, attention's products included."""
        total = 0
        for name, positions in self._positions.items():
            layer: Any = model.get_submodule(name)
            total += positions * layer.weight.numel()
            if name.endswith("qkv"):
                total += 2 * positions**2 * (layer.weight.shape[0] // 3)
        return total
