"""A stack of blocks is cut and fitted block by block, each towards the stream of the dense model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.pruning.blockwise.block_readers import (
    BlockReader,
    ReaderMatrix,
    adds_up,
    block_calls,
    by_position,
    reader_input,
    summand_of,
)
from tsdistill.pruning.blockwise.block_stack import BlockArguments, BlockStack, StackInputs, stream_of
from tsdistill.pruning.blockwise.reader_fit import EVERY, Moments, ReaderFit, ReaderRegression
from tsdistill.pruning.blockwise.uniform_widths import LossCurve
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import moved
from tsdistill.tracing.model_copy import deepcopy_model

PILOT_BLOCKS = 6
"""Blocks of a stack, spread evenly, whose losses decide between kinds of groups."""

PILOT_BATCHES = 4
"""Of so many batches one is looked at for that."""

_KEPT = 2**27
"""Entries of a layer's inputs over all samples that are kept, half a gibibyte of float32: a block need
not run once more when the layer has been fitted."""

_SMALLEST = 1e-12
"""Mean square of the stream's positions below which it counts as this large."""


@dataclass(frozen=True, eq=False)
class StackData:
    """What runs through a stack.

    Attributes:
        dense: what goes into the dense model's stack.
        pruned: what goes into that of the pruned model.
        masks: by batch the tokens that count, bool ``[samples, tokens]``; ``None`` where all do.
    """

    dense: StackInputs
    pruned: StackInputs
    masks: Sequence[Tensor | None]


class StackFit:
    """The blocks of one stack, one after the other.

    Args:
        stack: the stack.
        readers: the layers of its blocks that read what may leave, in forward order.
        summands: the modules below a block whose outputs it adds to its stream, in forward order.
        data: what runs through it.
        progress: is called with the number of blocks done.
    """

    def __init__(
        self,
        stack: BlockStack,
        readers: Sequence[BlockReader],
        summands: Sequence[str],
        data: StackData,
        progress: Callable[[int], None],
    ) -> None:
        self._stack, self._readers, self._summands = stack, readers, summands
        self._data, self._progress = data, progress

    def losses(
        self,
        model: nn.Module,
        scratch: nn.Module,
        floors: Mapping[str, int],
        divergence: Callable[[nn.Module], float],
    ) -> list[LossCurve]:
        """What each kind loses by its width, from some blocks of the dense model and some batches.

        Along a curve a loss is the squared error of the layer that reads the kind, when the nodes that cost
        least have left and it has been fitted again, in parts of the mean square of the stream behind the
        block (the median of the positions: single ones are a thousand times as large in models of language).
        Squared errors of attention and of feed-forward networks do not count the same (SmolLM2-135M with a
        fifth of its parameters gone, 4,096 tokens: perplexity 43.4 in place of 38.0 where they did), so that
        each curve is scaled to the divergence of the outputs with half of the nodes gone in those blocks.

        Args:
            model: the dense model.
            scratch: a copy of it, which is as it was at the end.
            floors: group -> the least number of nodes that stays.
            divergence: of the outputs of a model from the dense model's.
        """
        names = self._stack.names
        places = np.unique(np.linspace(0, len(names) - 1, PILOT_BLOCKS).round().astype(int)).tolist()
        chosen = {names[place] for place in places}
        dense = self._data.dense
        streams = {n: dense.streams[n].float() for n in range(0, len(dense.streams), PILOT_BATCHES)}
        losses = {reader.module: np.zeros(reader.kind.size + 1) for reader in self._readers}
        halves: dict[str, dict[str, ReaderFit]] = {reader.module: {} for reader in self._readers}
        with torch.no_grad(), evaluation_mode(model):
            for number, name in enumerate(names):
                block = single_precision(model.get_submodule(name))
                here = [r for r in self._readers if name in r.kind.groups] if name in chosen else []
                moments: dict[str, Moments] = {}
                sizes: list[Tensor] = []
                for batch, stream in streams.items():
                    modules = [reader.module for reader in here]
                    behind, calls = block_calls(block, modules, _arguments(dense, name, batch), stream)
                    mask = self._data.masks[batch]
                    for reader in here:
                        call = calls[reader.module]
                        z, output = (
                            _rows(by_position(value, stream), mask) for value in (call.first, call.output)
                        )
                        _moments_of(moments, reader.module, z, output).add(z, output)
                    sizes.append(_rows(behind, mask).square().mean(1))
                    streams[batch] = behind
                for reader in here:
                    group = reader.group(name)
                    matrix = ReaderMatrix(block.get_submodule(reader.module))
                    seen = moments[reader.module]
                    regression = ReaderRegression(seen, None, matrix.read(), matrix.constant)
                    removed, costs = regression.choose(reader.coords(name), floors[group.name])
                    half = removed[: _half(group.size, floors[group.name])]
                    halves[reader.module][f"{name}.{reader.module}"] = regression.without(
                        reader.coords(name), half, costs
                    )
                    curve = np.full(group.size + 1, np.inf)
                    curve[: len(costs) + 1] = np.concatenate([[0.0], np.cumsum(costs)])
                    size = float(torch.cat(sizes).median().clamp_min(_SMALLEST))
                    losses[reader.module] += curve / (seen.rows * size * len(chosen))
                self._progress(number + 1)
        curves = []
        for reader in self._readers:
            curve = losses[reader.module]
            half = curve[_half(reader.kind.size, floors[reader.group(names[0]).name])]
            with _weights(scratch, halves[reader.module]):
                scale = divergence(scratch) / half if half > 0 else 1.0
            curves.append(LossCurve(reader.kind, curve * scale))
        return curves

    def run(self, dense: nn.Module, pruned: nn.Module, kept: Mapping[str, int]) -> dict[str, ReaderFit]:
        """Choose what leaves and fit the layers that read it, block by block.

        A layer is fitted to what the pruned model gives it now, towards the dense model's *stream*: the
        stream behind the sum that it enters, less what the pruned model has in front of it. What blocks
        before have lost is made good so far as it can be. In a block that is no plain sum the layer is
        fitted towards its own output in the dense model.

        Args:
            dense: it is left as it is.
            pruned: its readers' weights are changed in place, to zero where nodes have left.
            kept: group -> number of nodes that stay.

        Returns:
            by name of a group, what leaves and how its reader was fitted.
        """
        fits: dict[str, ReaderFit] = {}
        wanted = [stream.float() for stream in self._data.dense.streams]
        now = [stream.float() for stream in self._data.pruned.streams]
        with torch.no_grad(), evaluation_mode(dense), evaluation_mode(pruned):
            for number, name in enumerate(self._stack.names):
                readers = [reader for reader in self._readers if name in reader.kind.groups]
                whole = single_precision(dense.get_submodule(name))
                small = single_precision(pruned.get_submodule(name))
                target = _Targets(self._data, name, readers, self._summands)
                behind = target.run(whole, wanted)
                moved_on = None
                for reader in readers:
                    group = reader.group(name)
                    if kept[group.name] == group.size:
                        continue
                    layer = small.get_submodule(reader.module)
                    seen = target.of(small, reader, now)
                    matrix = ReaderMatrix(layer)
                    regression = ReaderRegression(
                        seen.parts["fitted"], seen.parts.get("held"), matrix.read(), matrix.constant
                    )
                    fit = fits[group.name] = regression.fit(reader.coords(name), kept[group.name])
                    matrix.write(fit)
                    ReaderMatrix(pruned.get_submodule(f"{name}.{reader.module}")).write(fit)
                    moved_on = seen.behind(layer)
                now = moved_on or [
                    _arguments(self._data.pruned, name, n).run(small, stream) for n, stream in enumerate(now)
                ]
                wanted = behind
                self._progress(number + 1)
        return fits


class _Targets:
    """What the readers of one block should give.

    Args:
        data: what runs through the stack.
        block: name of the block.
        readers: its readers.
        summands: the modules below it whose outputs it adds to its stream.
    """

    def __init__(
        self, data: StackData, block: str, readers: Sequence[BlockReader], summands: Sequence[str]
    ) -> None:
        self._data, self._block = data, block
        self._summands = list(summands)
        self._readers = [reader.module for reader in readers]
        self._streams: Sequence[Tensor] = ()
        self._outputs: dict[str, list[Tensor]] = {}
        self._summand: dict[str, str | None] = {}

    def run(self, block: nn.Module, streams: Sequence[Tensor]) -> list[Tensor]:
        """Run the dense block on its streams; gives the streams behind it."""
        modules = dict.fromkeys((*self._readers, *self._summands))
        self._outputs = {name: [] for name in modules}
        self._streams, behind = streams, []
        for batch, stream in enumerate(streams):
            arguments = _arguments(self._data.dense, self._block, batch)
            after, calls = block_calls(block, modules, arguments, stream)
            behind.append(after)
            for name in modules:
                self._outputs[name].append(by_position(stream_of(calls[name].output), stream))
        first = {name: self._outputs[name][0] for name in self._summands}
        sums = bool(first) and adds_up(streams[0], behind[0], first.values())
        for name in self._readers:
            self._summand[name] = summand_of(self._outputs[name][0], first) if sums else None
        return behind

    def of(self, small: nn.Module, reader: BlockReader, streams: Sequence[Tensor]) -> _Seen:
        """What a reader of the pruned block is given and should give.

        Args:
            small: the pruned block.
            reader: the reader.
            streams: the pruned model's in front of the block.
        """
        summand = self._summand[reader.module]
        earlier = [] if summand is None else self._summands[: self._summands.index(summand)]
        last = summand is not None and summand == self._summands[-1]
        seen, first, entries = _Seen({}, [], []), 0, 0
        for batch, stream in enumerate(streams):
            arguments = _arguments(self._data.pruned, self._block, batch)
            z, before = reader_input(small, reader.module, earlier, arguments, stream)
            aim = self._outputs[reader.module][batch]
            if summand is not None:
                front = stream + sum(before.values())
                aim = aim + self._streams[batch] + sum(self._outputs[name][batch] for name in before) - front
                entries += z.numel()
                if last:
                    seen.inputs.append(z)
                    seen.fronts.append(front)
                if entries > _KEPT:
                    last = False
                    seen.inputs.clear()
                    seen.fronts.clear()
            held = torch.arange(first, first + len(stream)) % EVERY == EVERY - 1
            first += len(stream)
            mask = self._data.masks[batch]
            for half, here in (("fitted", ~held), ("held", held)):
                if bool(here.any()):
                    rows, aims = (_rows(v[here], None if mask is None else mask[here]) for v in (z, aim))
                    _moments_of(seen.parts, half, rows, aims).add(rows, aims)
        return seen


@dataclass(eq=False)
class _Seen:
    """What a reader is given and should give.

    Attributes:
        parts: moments of the samples that are fitted and of those that are held out.
        inputs: its inputs, by batch, where nothing of the block comes behind it and they are few enough to
            be kept.
        fronts: the stream in front of the sum that it enters, likewise.
    """

    parts: dict[str, Moments]
    inputs: list[Tensor]
    fronts: list[Tensor]

    def behind(self, layer: nn.Module) -> list[Tensor] | None:
        """The streams behind the block with the reader as it is now; ``None`` where its inputs are not
        kept."""
        if not self.inputs:
            return None
        return [front + layer(z) for front, z in zip(self.fronts, self.inputs, strict=True)]


def _half(size: int, floor: int) -> int:
    """Number of nodes that are gone where a curve is scaled."""
    return max(1, (size - floor) // 2) if size > floor else 0


@contextmanager
def _weights(model: nn.Module, fits: Mapping[str, ReaderFit]) -> Iterator[None]:
    """Layers of a model have the weights of ``fits`` inside the block."""
    layers = {name: model.get_submodule(name) for name in fits}
    before = {name: copy.deepcopy(layer.state_dict()) for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            ReaderMatrix(layer).write(fits[name])
        yield
    finally:
        for name, layer in layers.items():
            layer.load_state_dict(before[name])


def single_precision(block: nn.Module) -> nn.Module:
    """A copy of a block in float32."""
    return deepcopy_model(block).float().eval()


def _arguments(inputs: StackInputs, name: str, batch: int) -> BlockArguments:
    """What a block is called with besides the stream, in float32."""
    arguments = inputs.arguments[name][batch]
    device = inputs.streams[batch].device
    args, kwargs = moved((arguments.args, dict(arguments.kwargs)), device, torch.float32)
    return BlockArguments(args, kwargs, arguments.keyword)


def _moments_of(moments: dict[str, Moments], key: str, z: Tensor, target: Tensor) -> Moments:
    """The sums that have a key, begun where there are none yet."""
    if key not in moments:
        moments[key] = Moments.zeros(z.shape[1], target.shape[1], z.device)
    return moments[key]


def _rows(values: Tensor, mask: Tensor | None) -> Tensor:
    """``[..., channels]`` as rows ``[n, channels]``, without those of padding.

    Args:
        values: of a stream's positions.
        mask: tokens that count, bool ``[samples, tokens]``; ``None`` where all do.
    """
    if mask is not None and mask.shape == values.shape[:-1]:
        return values[mask]
    return values.flatten(0, -2)
