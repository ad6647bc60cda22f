"""The layers of a block that read what may leave, and what they are given and should give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.models.layers.layer_kind import from_blocks, weight_blocks
from tsdistill.pruning.blockwise.block_stack import BlockArguments, stream_of
from tsdistill.pruning.blockwise.reader_fit import ReaderFit
from tsdistill.pruning.blockwise.uniform_widths import GroupKind
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.tracing import Branch
from tsdistill.tracing.graph import Group

_SAME = 1e-3
"""Tensors are the same where their difference is below this part of them: a sum in another order."""


class _Read(BaseException):
    """A layer's input has been seen. No `Exception`, so that code of the model does not catch it."""


@dataclass(frozen=True, eq=False)
class BlockReader:
    """A layer of a block that reads one group.

    Attributes:
        module: its name below the block.
        kind: the kind of the group.
    """

    module: str
    kind: GroupKind

    def group(self, block: str) -> Group:
        """The group in one block."""
        return self.kind.groups[block]

    def coords(self, block: str) -> np.ndarray:
        """int64 ``[nodes, m]``, the channels of the layer's input that are each node of the group."""
        return self.group(block).readers[0].coords


class ReaderMatrix:
    """The weight of a layer as a matrix ``[outputs, inputs]``, and its bias.

    Args:
        layer: a linear layer, or one of its relatives (`models.layers.layer_kind`).

    Attributes:
        constant: whether the layer has a bias.
    """

    def __init__(self, layer: nn.Module) -> None:
        weight = effective_weight(layer)
        assert weight is not None
        self._layer, self._weight, self._bias = layer, weight, effective_weight(layer, "bias")
        self.constant = self._bias is not None

    def read(self) -> Tensor:
        """The matrix in float64."""
        return weight_blocks(self._layer, self._weight.read().double())[0].flatten(1)

    def write(self, fit: ReaderFit) -> None:
        """Set weight and bias."""
        blocks = fit.weight.reshape(1, *fit.weight.shape, 1)
        self._weight.write(from_blocks(self._layer, blocks, self._weight.shape))
        if self._bias is not None and fit.bias is not None:
            self._bias.write(fit.bias)


def readers_of(
    model: nn.Module, kinds: Sequence[GroupKind]
) -> tuple[tuple[BlockReader, ...], tuple[str, ...]]:
    """The layers that read the kinds, in forward order, and the names of kinds that none of them is made for.

    A kind is left whole where several layers read it or one layer reads several kinds, and where the layer
    is no matrix that every position goes through (a convolution, a quantised layer).
    """
    readers: list[BlockReader] = []
    whole: list[str] = []
    for kind in kinds:
        block, group = next(iter(kind.groups.items()))
        layers = {reader.module for reader in group.readers if reader.module}
        place = next(iter(layers)).removeprefix(f"{block}.")
        layer = model.get_submodule(f"{block}.{place}")
        taken = any(reader.module == place for reader in readers)
        if len(layers) != 1 or taken or group.readers[0].channel_dim != -1 or not _is_matrix(layer):
            whole.append(kind.name)
        else:
            readers.append(BlockReader(place, kind))
    return tuple(readers), tuple(whole)


def _is_matrix(layer: nn.Module) -> bool:
    weight = effective_weight(layer)
    if weight is None or not weight.writable() or not weight.read().is_floating_point():
        return False
    blocks = weight_blocks(layer, weight.read())
    return blocks.shape[0] == 1 and blocks.shape[3:].numel() == 1


def block_calls(
    block: nn.Module, modules: Iterable[str], arguments: BlockArguments, stream: Tensor
) -> tuple[Tensor, dict[str, ModuleCall]]:
    """The stream behind a block, and the call of each of ``modules`` below it."""
    calls: dict[str, ModuleCall] = {}

    def after(call: ModuleCall) -> None:
        calls[call.name] = call

    with ModuleHooks({name: block.get_submodule(name) for name in modules}, after=after):
        return arguments.run(block, stream), calls


def reader_input(
    block: nn.Module, reader: str, earlier: Iterable[str], arguments: BlockArguments, stream: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """What a reader of a block is given, and what ``earlier`` summands give; the rest does not run."""
    inputs: list[Any] = []
    outputs: dict[str, Tensor] = {}

    def look(call: ModuleCall) -> None:
        inputs.append(call.first)
        raise _Read

    def after(call: ModuleCall) -> None:
        outputs[call.name] = by_position(stream_of(call.output), stream)

    ahead = ModuleHooks({reader: block.get_submodule(reader)}, before=look)
    behind = ModuleHooks({name: block.get_submodule(name) for name in earlier}, after=after)
    with ahead, behind, suppress(_Read):
        arguments.run(block, stream)
    return by_position(inputs[0], stream), outputs


def by_position(values: Tensor, stream: Tensor) -> Tensor:
    """Values of a layer with the leading dimensions of the stream, where it has run over rows ``[samples ·
    tokens, channels]``."""
    if values.shape[:-1].numel() == stream.shape[:-1].numel():
        return values.reshape(*stream.shape[:-1], values.shape[-1])
    return values


def adds_up(stream: Tensor, behind: Tensor, outputs: Iterable[Tensor]) -> bool:
    """Whether a block gives its stream plus ``outputs``."""
    total = stream
    for output in outputs:
        if output.shape != stream.shape:
            return False
        total = total + output
    return behind.shape == stream.shape and _same(total, behind)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and float((one - other).norm()) <= _SAME * float(other.norm())


def summand_of(reader: Tensor, summands: Mapping[str, Tensor]) -> str | None:
    """The summand that is a reader's output as it is; ``None`` where a norm or a scale lies between."""
    return next((name for name, output in summands.items() if _same(reader, output)), None)


def summands_of(branches: Iterable[Branch], block: str) -> tuple[str, ...]:
    """The modules below a block whose outputs it adds to its stream, in forward order."""
    inside = {
        branch.name: branch
        for branch in branches
        if all(name.startswith(f"{block}.") for name in branch.last) and branch.last
    }
    outer = [branch for branch in inside.values() if branch.within not in inside]
    return tuple(name.removeprefix(f"{block}.") for branch in outer for name in branch.last)
