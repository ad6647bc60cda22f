"""Running a model that belongs to somebody else: nothing of it changes, and its failures become one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.tracing.runtime import call


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients for the parameters inside the block; everything is put back after it.

    The fused path of ``nn.TransformerEncoderLayer`` is off inside, because it skips the submodules' hooks.
    """
    training = {module: module.training for module in model.modules()}
    wanted = {parameter: parameter.requires_grad for parameter in model.parameters()}
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, flag in training.items():
            module.training = flag
        for parameter, flag in wanted.items():
            parameter.requires_grad_(flag)


def placement(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating type of a model's first floating parameter (CPU and float32 without one)."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.device, parameter.dtype
    return torch.device("cpu"), torch.float32


def to_model(batch: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """``batch`` (tensor, tuple of arguments, dict of keywords) on ``device``, floating ones in ``dtype``."""
    if isinstance(batch, Tensor):
        return batch.to(device=device, dtype=dtype if batch.is_floating_point() else None)
    if isinstance(batch, Mapping):
        return {key: to_model(value, device, dtype) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(to_model(value, device, dtype) for value in batch)
    return batch


def count(batch: Any) -> int:
    """Number of samples in ``batch``: the first dimension of its first tensor."""
    first = next(tensors(batch), None)
    return 0 if first is None or first.ndim == 0 else first.shape[0]


def first_sample(batch: Any) -> Any:
    """``batch`` cut down to its first sample, batch dimension kept."""
    if isinstance(batch, Tensor):
        return batch[:1]
    if isinstance(batch, Mapping):
        return {key: first_sample(value) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(first_sample(value) for value in batch)
    return batch


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor in a nest of tuples, lists and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors(item)


def forward(model: nn.Module, batch: Any, role: str = "model") -> Any:
    """Run ``model`` on ``batch``: ``model(x)``, ``model(*args)`` or ``model(**keywords)``.

    Raises:
        TsdistillError: the forward failed; names ``role`` and the shapes that went in.
    """
    try:
        return call(model, batch)
    except TsdistillError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors(batch))
        cause = " ".join(str(error).split()) or type(error).__name__
        raise TsdistillError(
            f"the {role}'s forward failed on an input of shape {shapes}: {cause[:300]}; "
            "check the input size and the data"
        ) from error


def check_finite(model: nn.Module, role: str = "model") -> None:
    """Raise TsdistillError when a parameter of ``model`` holds NaN or infinity; the message names it."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not bool(torch.isfinite(parameter).all()):
            raise TsdistillError(
                f"weight {name!r} of the {role} holds NaN or infinity; give a checkpoint with finite weights"
            )
