"""Digits, networks of one hidden layer, and what tells two of them apart."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tests.digits import digits as all_digits
from tsdistill.distillation import distill

ARCH = "tests/distillation/small.py:student"


@cache
def digits() -> TensorDataset:
    """scikit-learn's 1,797 digits, 64 values in [0, 1] each, with labels."""
    images, labels = all_digits()
    return TensorDataset(images.flatten(1), labels)


def grouped(**arguments: Any) -> dict[str, Any]:
    """Arguments of `distill` and `train`: what these do not take by name are options of the training."""
    own = inspect.signature(distill).parameters
    options = {name: value for name, value in arguments.items() if name not in own}
    return {name: value for name, value in arguments.items() if name in own} | {"options": options}


def network(width: int, seed: int = 0, classes: int = 10, drop: float = 0.0) -> nn.Module:
    """64 values, ``width`` nodes with batch norm, classes; the same for the same seed."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(drop), nn.Linear(width, classes)
    )


def student(width: int = 24) -> nn.Module:
    """The student that files name."""
    return network(width, seed=1, drop=0.1)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of everything that a model has learnt."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Every weight and buffer is the same, bit for bit."""
    assert one.keys() == other.keys()
    different = [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]
    assert not different, different
