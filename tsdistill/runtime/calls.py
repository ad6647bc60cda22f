"""The calls that a forward makes, by number: what they were given, and what they gave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

LOOKS = frozenset(
    (
        "__get__",
        "size",
        "dim",
        "stride",
        "is_contiguous",
        "numel",
        "is_floating_point",
        "__len__",
        "ndimension",
    )
)


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

    def tensors(self) -> Iterator[Tensor]:
        """The tensors that it was given."""
        for value in (*self.args, *self.kwargs.values()):
            for item in value if isinstance(value, tuple | list) else (value,):
                if isinstance(item, Tensor):
                    yield item

    def again(self, old: Tensor, new: Tensor) -> Tensor:
        """The result with ``new`` in the place of ``old``."""
        args = [new if value is old else value for value in self.args]
        kwargs = {key: new if value is old else value for key, value in self.kwargs.items()}
        return self.function(*args, **kwargs)


class Calls(TorchFunctionMode):
    """Records every call and keeps its tensors alive, so that their identities stay distinct."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._number = 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self._number += 1
        if getattr(func, "__name__", "") not in LOOKS:
            self.calls.append(Call(self._number, func, args, kwargs or {}, output))
        return output


class Captured(TorchFunctionMode):
    """Counts calls as `Calls` does and keeps the results of some."""

    def __init__(self, numbers: Collection[int]) -> None:
        super().__init__()
        self.results: dict[int, Any] = {}
        self._wanted = set(numbers)
        self._number = 0

    def drop(self, number: int | None) -> None:
        """Let go of the result of a call."""
        if number is not None:
            self._wanted.discard(number)
            self.results.pop(number, None)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self._number += 1
        if self._number in self._wanted:
            self.results[self._number] = output
        return output
