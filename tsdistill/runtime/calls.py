"""The calls that a forward makes, by number: what they were given, and what they gave."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from tsdistill.runtime.nests import tensors

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
