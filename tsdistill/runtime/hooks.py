"""Looking at (or replacing) the first input of named layers during a forward."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

Look = Callable[[Tensor], Tensor | None]


def branched(output: Tensor, look: Callable[[Tensor], None]) -> Tensor:
    """What goes on in place of a layer's output, so that ``look`` is called with the derivative by it.

    It is no view: what comes behind may work in place, which takes a view's hooks away. The output of a layer
    that runs inside ``torch.vmap`` goes on as it is, nothing can be hooked there.
    """
    if torch._C._functorch.is_batchedtensor(output):
        return output
    branch = (output if output.requires_grad else output.detach().requires_grad_()).clone()
    branch.register_hook(look)
    return branch


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start


class Hooks:
    """Forward-pre-hooks on named modules, removed on exit whatever happens.

    Args:
        model: the model.
        hooks: by module name, what is called with the first input; a tensor that comes back replaces it.
        clock: counts the time that the calls take, if it is given.
        phase: under which name.
    """

    def __init__(
        self,
        model: nn.Module,
        hooks: Mapping[str, Sequence[Callable[[Tensor], Any]]],
        clock: Clock | None = None,
        phase: str = "",
    ) -> None:
        modules = dict(model.named_modules())
        self._wanted = [(modules[name], calls) for name, calls in hooks.items() if name in modules]
        self._clock, self._phase = clock, phase
        self._handles: list[Any] = []

    def __enter__(self) -> Hooks:
        for module, calls in self._wanted:
            self._handles.append(module.register_forward_pre_hook(self._hook(calls), with_kwargs=True))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _hook(self, calls: Sequence[Look]) -> Callable[..., Any]:
        def look(x: Tensor) -> Tensor:
            for call in calls:
                replaced = call(x)
                x = x if replaced is None else replaced
            return x

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not args and "input" not in kwargs:
                return None
            first = args[0] if args else kwargs["input"]
            x = first.data if isinstance(first, PackedSequence) else first
            if torch._C._functorch.is_batchedtensor(x):
                return None
            if self._clock is None:
                seen = look(x)
            else:
                with self._clock.phase(self._phase):
                    seen = look(x)
            given = first._replace(data=seen) if isinstance(first, PackedSequence) else seen
            return ((given, *args[1:]), kwargs) if args else ((), {**kwargs, "input": given})

        return hook
