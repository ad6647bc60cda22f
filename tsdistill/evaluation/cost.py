"""What a model costs: operations, parameters, bytes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tsdistill.errors import TsdistillError
from tsdistill.models.origin import info_of
from tsdistill.runtime.exclusive import exclusive
from tsdistill.runtime.forward import at_rest, forward
from tsdistill.runtime.modes import plain_attention
from tsdistill.runtime.unchanged import unchanged


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products: fused kernels for whole blocks hide theirs from the counter."""
    with plain_attention(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def _plain_recurrence() -> Iterator[None]:
    """Recurrent layers as matrix products: oneDNN's kernel hides them from the counter."""
    with exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with torch.backends.mkldnn.flags(enabled=False):
            yield


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
    with ExitStack() as stack:
        stack.enter_context(at_rest(model, fast=True))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_plain_attention())
        if any(isinstance(module, nn.LSTM) for module in model.modules()):
            stack.enter_context(_plain_recurrence())
        stack.enter_context(counter)
        forward(model, example_input)
    return counter.get_total_flops() // 2


def parameters(model: nn.Module) -> int:
    """Number of parameter values; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def file_size(model: nn.Module | str | os.PathLike[str]) -> int:
    """Bytes of a file, or of a model's parameters and buffers as `tsdistill.save` stores them; shared ones
    count once.

    Raises:
        TsdistillError: there is no such file.
    """
    if not isinstance(model, nn.Module):
        try:
            return Path(model).stat().st_size
        except OSError as error:
            raise TsdistillError(f"cannot read {os.fspath(model)}: {error.strerror}") from error
    extra = [model.get_buffer(name) for name in info_of(model).buffers]
    tensors = [value for value in (*model.state_dict().values(), *extra) if isinstance(value, torch.Tensor)]
    stored = {(t.data_ptr() if t.numel() else id(t), t.numel(), t.dtype): t for t in tensors}
    return sum(t.numel() * t.element_size() for t in stored.values())
