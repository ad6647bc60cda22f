"""The deep copy that every cut begins with."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_TABLES = (OrderedDict, dict, set, list)


def copied(model: nn.Module, replaced: Mapping[int, torch.Tensor] | None = None) -> nn.Module:
    """A deep copy; tensors that modules have computed and still hold come along without their history.

    ``replaced`` (the identity of a tensor -> another) says which tensors others take the place of.
    """
    memo: dict[int, Any] = dict(replaced or {})
    for module in model.modules():
        for value in vars(module).values():
            if type(value) in _TABLES:
                if not value:  # most of what a module keeps; deepcopy takes its time over each
                    memo.setdefault(id(value), type(value)())
            elif isinstance(value, torch.Tensor) and not value.is_leaf and id(value) not in memo:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(model, memo)
