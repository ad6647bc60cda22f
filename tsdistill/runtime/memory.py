"""What a forward pass takes at its peak, on top of the model and its input."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.runtime.forward import forward, placement, to_model
from tsdistill.runtime.modes import OperatorMode, evaluation_mode
from tsdistill.runtime.nests import tensors
from tsdistill.runtime.unchanged import unchanged
from tsdistill.torch_private import storage_key


@unchanged
def peak_memory(model: nn.Module, example_input: Any) -> int:
    """Bytes that one forward pass holds at its peak, beside parameters, buffers and the input.

    On a CUDA device that is what PyTorch's allocator reports: the largest allocation during the pass less
    the one before it, cuDNN's workspaces included. Elsewhere the tensors that operators return are followed
    from their allocation until they are freed; what a kernel takes and frees within itself is not seen.

    Args:
        model: run in evaluation mode without gradients and left as it was.
        example_input: a tensor, a tuple of arguments or a mapping of keyword arguments.

    Raises:
        TsdistillError: the forward pass fails.
    """
    device, _ = placement(model)
    with evaluation_mode(model, fast=True), torch.no_grad():
        x = to_model(example_input, model)
        if device.type == "cuda":
            return _allocated(model, x, device)
        live = Live()
        with live:
            output = forward(model, x)
        del output
        return live.peak


def _allocated(model: nn.Module, x: Any, device: torch.device) -> int:
    forward(model, x)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    forward(model, x)
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


class Live(OperatorMode):
    """Follows the storages that operators allocate until they are freed.

    Attributes:
        now: bytes that are held at present.
        peak: the most that were held at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.now = 0
        self._held: dict[int, tuple[int, weakref.ref[Any]]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {storage_key(storage) for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if storage_key(storage) not in inputs or storage_key(storage) in self._held:
                self._hold(storage)
        return result

    def _hold(self, storage: Any) -> None:
        key, size = storage_key(storage), storage.nbytes()
        before = self._held.get(key)
        reference = before[1] if before else weakref.ref(storage, lambda _: self._free(key))
        self._held[key] = (size, reference)
        self.now += size - (before[0] if before else 0)
        self.peak = max(self.peak, self.now)

    def _free(self, key: int) -> None:
        self.now -= self._held.pop(key)[0]


def _storages(tree: Any) -> Iterator[Any]:
    """The storages of the tensors in a nest; those without one (sparse, opaque) are left out."""
    for tensor in tensors(tree):
        if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
            yield tensor.untyped_storage()
