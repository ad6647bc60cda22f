"""Torch-Pruning on the same architectures, with the settings of its own script for timm's models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import tsdistill as tsd
from tsdistill.runtime.modes import call
from tsdistill.runtime.nests import tensors

from .checks import MOST, Failure, Timed, built


def peer(spec: str, folder: Path, timed: Timed, size: tuple[int, ...] | None = None) -> dict[str, Any]:  # noqa: ARG001
    """Half of every width cut by magnitude; what comes out must run and be smaller.

    Raises:
        Failure: it does not.
    """
    import torch_pruning

    with timed("build"):
        model = built(spec, size)
    example = tsd.example_input(model)
    count = torch_pruning.utils.count_ops_and_params
    with torch.no_grad():
        whole = [t.shape for t in tensors(call(model, example))]
        with timed("forward"):
            call(model, example)
    forward = timed.cpu["forward"]
    before, _ = count(model, example)
    with timed("cut"):
        pruner = torch_pruning.pruner.MagnitudePruner(
            model,
            example_inputs=example,
            global_pruning=False,
            importance=torch_pruning.importance.MagnitudeImportance(),
            iterative_steps=1,
            pruning_ratio=0.5,
            num_heads={m.qkv: m.num_heads for m in model.modules() if _attends(m)},
            ignored_layers=_last(model),
        )
        for group in pruner.step(interactive=True):
            group.prune()
    for module in model.modules():
        if _attends(module):
            module.num_heads = pruner.num_heads[module.qkv]
            module.head_dim = module.qkv.out_features // (3 * module.num_heads)
    with timed("run"), torch.no_grad():
        found = [t.shape for t in tensors(call(model, example))]
    after, _ = count(model, example)
    row = {
        "macs": round(after / before, 4),
        "forward": forward,
        "forwards": round(timed.cpu["cut"] / max(forward, 1e-4), 2),
    }
    if found != whole:
        raise Failure("outputs of other shapes")
    if row["macs"] > MOST:
        raise Failure(f"{row['macs']:.2f} of the MACs are left")
    return row


def _attends(module: nn.Module) -> bool:
    return isinstance(getattr(module, "qkv", None), nn.Linear) and isinstance(
        getattr(module, "num_heads", None), int
    )


def _last(model: nn.Module) -> list[nn.Module]:
    """The classifier."""
    classes = getattr(model, "num_classes", 1000)
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
