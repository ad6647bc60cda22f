"""Looking at (or replacing) the first input of named layers during a forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

Look = Callable[[Tensor], Tensor | None]


class Hooks:
    """Forward-pre-hooks on named modules, removed on exit whatever happens."""

    def __init__(self, model: nn.Module, hooks: Mapping[str, Sequence[Callable[[Tensor], Any]]]) -> None:
        modules = dict(model.named_modules())
        self._wanted = [(modules[name], calls) for name, calls in hooks.items() if name in modules]
        self._handles: list[Any] = []

    def __enter__(self) -> Hooks:
        for module, calls in self._wanted:
            self._handles.append(module.register_forward_pre_hook(_hook(calls), with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()


def _hook(calls: Sequence[Look]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            x, rest = args[0], args[1:]
        elif "input" in kwargs:
            x, rest = kwargs["input"], None
        else:
            return None
        for call in calls:
            replaced = call(x)
            x = x if replaced is None else replaced
        if rest is None:
            return (), {**kwargs, "input": x}
        return (x, *rest), kwargs

    return hook
