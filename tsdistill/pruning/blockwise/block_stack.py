"""Stacks of blocks: modules of one class that a model runs one behind the other on one stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.runtime.caches import without_cache
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import leaves

STREAM = "hidden_states"
"""The keyword by which transformers hands a block its stream, where it does not by position."""


class _Complete(BaseException):
    """All is known of a batch. No `Exception`, so that code of the model does not catch it."""


@dataclass(frozen=True)
class BlockStack:
    """A stack of blocks.

    Attributes:
        names: of the blocks, in forward order.
    """

    names: tuple[str, ...]

    def block_of(self, parameter: str) -> str | None:
        """The block that a parameter or a module is in, ``None`` for those outside the stack."""
        return next((name for name in self.names if parameter.startswith(f"{name}.")), None)


@dataclass(frozen=True, eq=False)
class BlockArguments:
    """What a block is called with besides its stream.

    Attributes:
        args: the positional arguments behind the stream; all of them where the stream has a keyword.
        kwargs: the keyword arguments without the stream.
        keyword: whether the stream is given as ``hidden_states``.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    keyword: bool

    def run(self, block: nn.Module, stream: Tensor) -> Tensor:
        """The stream behind ``block``."""
        if self.keyword:
            return stream_of(block(*self.args, **{**self.kwargs, STREAM: stream}))
        return stream_of(block(stream, *self.args, **self.kwargs))


@dataclass(eq=False)
class StackInputs:
    """What goes into a stack, batch by batch.

    Attributes:
        streams: the stream in front of the first block, one tensor a batch.
        arguments: by name of a block, what it is called with, one entry a batch.
    """

    streams: list[Tensor] = field(default_factory=list)
    arguments: dict[str, list[BlockArguments]] = field(default_factory=dict)


def stream_of(output: Any) -> Tensor:
    """The stream in what a block returned: the output, or the first one of several."""
    first = output if isinstance(output, Tensor) else next(iter(output))
    assert isinstance(first, Tensor)
    return first


def find_stacks(model: nn.Module, example: Any) -> tuple[BlockStack, ...]:
    """The stacks of blocks of ``model``, in forward order.

    The blocks of a stack are entries of one list and have the same class; each runs once, and reads the very
    tensor that the one before it returned. A stack in a block of another
    one is not listed.

    Args:
        model: any module.
        example: an input of batch 1.

    Raises:
        TsdistillError: the forward fails.
    """
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 1
    }
    children = {
        name: [(f"{name}.{key}".lstrip("."), entry) for key, entry in module.named_children()]
        for name, module in lists.items()
    }
    entries = dict(pair for each in children.values() for pair in each)
    reads: dict[str, list[Tensor | None]] = {}
    gives: dict[str, list[Tensor | None]] = {}

    def before(call: ModuleCall) -> None:
        reads.setdefault(call.name, []).append(_stream_argument(call))

    def after(call: ModuleCall) -> None:
        with suppress(AssertionError, TypeError, StopIteration):
            gives.setdefault(call.name, []).append(stream_of(call.output))

    hooks = ModuleHooks(entries, before=before, after=after)
    with torch.no_grad(), evaluation_mode(model), without_cache(model), hooks:
        forward(model, example)
    stacks: list[BlockStack] = []
    for name in lists:
        if not any(stack.block_of(f"{name}.") for stack in stacks):
            stacks += _chains([entry for entry, _ in children[name]], entries, reads, gives)
    order = list(reads)
    return tuple(sorted(stacks, key=lambda stack: order.index(stack.names[0])))


def _chains(
    names: list[str],
    entries: Mapping[str, nn.Module],
    reads: Mapping[str, list[Tensor | None]],
    gives: Mapping[str, list[Tensor | None]],
) -> list[BlockStack]:
    """The longest runs of entries of one list that hand the stream on."""
    runs: list[list[str]] = []
    for name in names:
        once = len(reads.get(name, ())) == 1 and len(gives.get(name, ())) == 1
        if not once or reads[name][0] is None or gives[name][0] is None:
            continue
        last = runs[-1][-1] if runs else None
        if last is not None and reads[name][0] is gives[last][0] and _alike(entries[name], entries[last]):
            runs[-1].append(name)
        else:
            runs.append([name])
    return [BlockStack(tuple(run)) for run in runs if len(run) > 1]


def _alike(one: nn.Module, other: nn.Module) -> bool:
    return type(one) is type(other) and any(True for _ in one.parameters())


def _stream_argument(call: ModuleCall) -> Tensor | None:
    first = call.args[0] if call.args else call.kwargs.get(STREAM)
    return first if isinstance(first, Tensor) else None


def stack_inputs(model: nn.Module, stack: BlockStack, batches: Iterable[Any]) -> StackInputs:
    """Run ``model`` up to a stack and keep what its blocks are called with.

    The first batch runs through the stack. Where all blocks are called with the same arguments there, the
    others stop in front of it.

    Args:
        model: the model.
        stack: one of its stacks.
        batches: inputs of the model.

    Raises:
        TsdistillError: the forward fails.
    """
    inputs = StackInputs(arguments={name: [] for name in stack.names})
    first, alike = stack.names[0], False

    def before(call: ModuleCall) -> None:
        stream = _stream_argument(call)
        assert stream is not None
        kwargs = {key: value for key, value in call.kwargs.items() if key != STREAM}
        arguments = BlockArguments(call.args[1:], kwargs, not call.args)
        if call.name == first:
            inputs.streams.append(stream.detach())
        for name in stack.names if alike else (call.name,):
            inputs.arguments[name].append(arguments)
        if alike:
            raise _Complete

    def after(call: ModuleCall) -> None:
        if call.name == stack.names[-1]:
            raise _Complete

    modules = {name: model.get_submodule(name) for name in stack.names}
    hooks = ModuleHooks(modules, before=before, after=after)
    with torch.no_grad(), evaluation_mode(model), without_cache(model), hooks:
        for x in batches:
            with suppress(_Complete):
                forward(model, x)
            alike = all(_same(inputs.arguments[first][0], each[0]) for each in inputs.arguments.values())
    return inputs


def _same(one: BlockArguments, other: BlockArguments) -> bool:
    """Whether two blocks are called with the very same objects."""
    pairs = [*leaves([one.args, dict(one.kwargs)])], [*leaves([other.args, dict(other.kwargs)])]
    return len(pairs[0]) == len(pairs[1]) and all(
        a is b or (not isinstance(a, Tensor) and a == b) for a, b in zip(*pairs, strict=True)
    )
