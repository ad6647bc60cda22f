"""What a model costs: operations, parameters, bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tsdistill.errors import TsdistillError
from tsdistill.models.origin import info_of
from tsdistill.runtime.forward import forward
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.unchanged import unchanged


@unchanged
def macs(model: nn.Module, example_input: Any) -> int:
    """Multiply-accumulate operations of one forward pass: half of what PyTorch's ``FlopCounterMode`` counts.

    Fused attention and recurrent layers are counted by the matrix products that they are made of.

    Args:
        model: any module; it is run in evaluation mode without gradients and left as it was.
        example_input: a tensor, a tuple of arguments or a mapping of keyword arguments, batch 1.

    Raises:
        TsdistillError: the forward pass fails.
    """
    counter = FlopCounterMode(display=False)
    with evaluation_mode(model, fast=True, products=True), torch.no_grad(), counter:
        forward(model, example_input)
    return counter.get_total_flops() // 2


def parameters(model: nn.Module) -> int:
    """Number of parameter values; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def file_size(model: nn.Module | str | os.PathLike[str]) -> int:
    """Bytes of a file, of the files in a folder, or of a model's parameters and buffers as `tsdistill.save`
    stores them; shared ones count once.

    Raises:
        TsdistillError: there is no such file.
    """
    if not isinstance(model, nn.Module):
        try:
            path = Path(model)
            files = [each for each in path.iterdir() if each.is_file()] if path.is_dir() else [path]
            return sum(each.stat().st_size for each in files)
        except OSError as error:
            raise TsdistillError(f"cannot read {os.fspath(model)}: {error.strerror}") from error
    extra = [model.get_buffer(name) for name in info_of(model).buffers]
    tensors = [value for value in (*model.state_dict().values(), *extra) if isinstance(value, torch.Tensor)]
    stored = {(t.data_ptr() if t.numel() else id(t), t.numel(), t.dtype): t for t in tensors}
    return sum(t.numel() * t.element_size() for t in stored.values())
