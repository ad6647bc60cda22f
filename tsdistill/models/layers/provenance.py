"""Which tensors of a forward are computed from parameters alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.torch_private import TorchDispatchMode, pytree, storage_key


class Provenance(TorchDispatchMode):
    """Follows the parameters of a model through the operators of a forward.

    Tensors are distinguished by their storage, so that views and changes in place count as the tensor itself.
    Whatever an activation or a random number has a part in is no weight, nor is what views of it hold.

    Args:
        model: the model whose parameters and buffers are followed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._sources: dict[int | None, tuple[Any, frozenset[str]]] = {}
        for buffer in model.buffers():
            self._note(buffer, frozenset())
        for name, parameter in model.named_parameters():
            self._note(parameter, self.sources(parameter) | {name})

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def sources(self, tensor: Tensor) -> frozenset[str]:
        """Names of the parameters that a tensor is computed from; none if anything else has a part in it."""
        known = self._sources.get(_place(tensor))
        return frozenset() if known is None else known[1]

    def _note(self, tensor: Tensor, sources: frozenset[str]) -> None:
        place = _place(tensor)
        if place is not None:  # the storage is held, lest another one takes its place in memory
            self._sources[place] = tensor.untyped_storage(), sources

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        random = torch.Tag.nondeterministic_seeded in func.tags
        known = not random and all(_place(tensor) in self._sources for tensor in inputs)
        sources = frozenset[str]().union(*(self.sources(tensor) for tensor in inputs))
        out = func(*args, **kwargs)
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        for tensor in (*_tensors(out), *_tensors(written)):
            if known:
                self._note(tensor, sources)
            else:
                self._sources.pop(_place(tensor), None)
        return out


def _tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(nest) if isinstance(leaf, Tensor)]


def _place(tensor: Tensor) -> int | None:
    """The storage of a tensor; ``None`` for sparse ones, which have none, and of which nothing is said."""
    return storage_key(tensor.untyped_storage()) if tensor.layout is torch.strided else None
