"""The calls that a forward makes: of PyTorch functions, by number, and the first one of each module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode

from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import mapped, tensors

_LOOKS = frozenset(
    (
        *("__get__", "size", "dim", "stride", "is_contiguous", "numel"),
        *("is_floating_point", "__len__", "ndimension"),
    )
)
"""Functions that only ask for properties of a tensor."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a PyTorch function: ``function(*args, **kwargs)``."""

    number: int
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any

    @property
    def name(self) -> str:
        """Name of the function."""
        return getattr(self.function, "__name__", "")

    def tensors(self) -> list[Tensor]:
        """The tensors that it was given."""
        return tensors((self.args, self.kwargs))

    def again(self, old: Tensor, new: Tensor) -> Tensor:
        """The result with ``new`` in the place of ``old``."""
        args = [new if value is old else value for value in self.args]
        kwargs = {key: new if value is old else value for key, value in self.kwargs.items()}
        return self.function(*args, **kwargs)


class _NumberedCalls(TorchFunctionMode):
    """Numbers the calls of PyTorch functions, from 1, and hands each to `_take`."""

    _number = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self._number += 1
        self._take(Call(self._number, func, args, kwargs or {}, output))
        return output

    def _take(self, call: Call) -> None:
        raise NotImplementedError


class Calls(_NumberedCalls):
    """Records every call and keeps its tensors alive, so that their identities stay distinct."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def _take(self, call: Call) -> None:
        if call.name not in _LOOKS:
            self.calls.append(call)


class Captured(_NumberedCalls):
    """Keeps the results of some calls, by their numbers as `Calls` counts them."""

    def __init__(self, numbers: Collection[int]) -> None:
        super().__init__()
        self.results: dict[int, Any] = {}
        self._wanted = set(numbers)

    def drop(self, number: int | None) -> None:
        """Let go of the result of a call."""
        if number is not None:
            self._wanted.discard(number)
            self.results.pop(number, None)

    def _take(self, call: Call) -> None:
        if call.number in self._wanted:
            self.results[call.number] = call.output


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """The first call of a module: ``module(*args, **kwargs)``."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def input(self) -> Tensor | None:
        """The first argument, where it is a tensor of numbers."""
        first = self.args[0] if self.args else self.kwargs.get("input")
        first = first.data if isinstance(first, PackedSequence) else first
        return first if isinstance(first, Tensor) and first.is_floating_point() else None

    def on(self, x: Tensor) -> RecordedCall:
        """The same call with another first argument (of packed sequences, with other values)."""
        if self.args:
            packed = isinstance(self.args[0], PackedSequence)
            first = self.args[0]._replace(data=x) if packed else x
            return replace(self, args=(first, *self.args[1:]))
        return replace(self, kwargs={**self.kwargs, "input": x})


def recorded_calls(model: nn.Module, names: Collection[str], example: Any) -> dict[str, RecordedCall]:
    """The first call of each of the modules ``names``, in one run of ``model`` on ``example``.

    Args:
        model: the model; it is left as it was.
        names: dotted names of modules.
        example: an input of batch 1.

    Returns:
        module -> its call; the tensors are copies. A module that does not run is missing.

    Raises:
        TsdistillError: the forward fails.
    """
    calls: dict[str, RecordedCall] = {}
    if not names:
        return calls

    def record(call: ModuleCall) -> None:
        if call.name not in calls:
            copies = mapped((call.args, call.kwargs), lambda tensor: tensor.detach().clone())
            calls[call.name] = RecordedCall(*copies)

    modules = dict(model.named_modules())
    with (
        ModuleHooks({name: modules[name] for name in names}, before=record),
        evaluation_mode(model),
        torch.no_grad(),
    ):
        forward(model, example)
    return calls
