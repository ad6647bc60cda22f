"""Which architecture bare weights belong to, from their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.checkpoint import variants
from tsdistill.models.info import ModelInfo
from tsdistill.models.weights import difference, place, shapes_of, state


def fit(model: nn.Module, tensors: Mapping[str, torch.Tensor], path: Path, arch: str) -> None:
    """Put the weights of a file into ``model``, names with or without what wrappers put before them.

    Raises:
        TsdistillError: the weights are not those of this architecture; says what differs.
    """
    expected = shapes_of(state(model))
    tried = [(difference(shapes_of(names), expected, arch), names) for names in variants(tensors)]
    off, best = min(tried, key=lambda item: item[0].count)
    if off.count:
        raise TsdistillError(f"{path} does not fit {arch}: {off.text}; give another --arch (arch=)")
    place(model, {name: best[name].clone() for name in (*expected, *best) if name in best})


def recognise(tensors: Mapping[str, torch.Tensor], path: Path) -> tuple[nn.Module, ModelInfo]:
    """Build the architecture whose names and shapes these are, and fill it."""
    raise TsdistillError(f"{path}: name its architecture with --arch (arch=)")
