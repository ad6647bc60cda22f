"""Forward passes of all batches through both models in step, as many at once as memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tsdistill.pruning.realignment.pausable_forward import PausableForward
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.memory import Live
from tsdistill.runtime.nests import count

MEMORY = 2 * 2**30
"""Bytes of activations that are held at once, unless the caller says otherwise."""


class BatchScheduler:
    """Runs every batch through each model once, whatever the number of target layers.

    A paused batch occupies what both models' forwards have alive there. Where feature maps are large only the
    first batches are run; others are started, and run up to the present layer, where maps are smaller.

    Args:
        dense: the dense model, which pauses after layers.
        small: the small one, which pauses before them.
        batches: the data.
        needs: stop -> bytes a sample that are alive there, in forward order.
        memory: bytes that may be held.
        capture: numbers of the calls whose results are kept, of the small and of the dense model.
    """

    def __init__(
        self,
        dense: nn.Module,
        small: nn.Module,
        batches: Iterable[tuple[Any, Any]],
        needs: Mapping[str, int],
        memory: int,
        capture: tuple[Sequence[int], Sequence[int]],
    ) -> None:
        self._models = small, dense
        self._batches = iter(batches)
        self._memory = memory
        self._capture = capture
        self._runs: list[tuple[PausableForward, PausableForward]] = []
        self.samples = 0
        self._ahead: dict[str, int] = {}
        most = 1
        for stop, need in reversed(list(needs.items())):
            most = max(most, need)
            self._ahead[stop] = most

    def at(self, stop: str) -> Iterator[tuple[PausableForward, PausableForward]]:
        """The forward passes (small, dense) of every batch that is run at ``stop``."""
        room = self._memory / self._ahead[stop]
        while self.samples < room or not self._runs:
            x, _ = next(self._batches, (None, None))
            if x is None:
                break
            pair = [
                PausableForward(model, x, calls, role)
                for model, calls, role in zip(
                    self._models, self._capture, ("model", "dense model"), strict=True
                )
            ]
            self._runs.append((pair[0], pair[1]))
            self.samples += count(x)
        yield from self._runs

    def forget(self, small: Sequence[int | None], dense: Sequence[int | None]) -> None:
        """Release the results of calls that are not needed any more."""
        for pair in self._runs:
            for run, calls in zip(pair, (small, dense), strict=True):
                for call in calls:
                    run.captured.drop(call)

    def leave(self) -> None:
        """End every forward pass pass."""
        for pair in self._runs:
            for run in pair:
                run.abandon()
        self._runs.clear()


def alive(model: nn.Module, stops: Sequence[str], x: Any, kept: Sequence[str] = ()) -> dict[str, int]:
    """Bytes that are alive before or after each stop during one forward of ``x``; ``model`` is at rest.

    The inputs of the modules ``kept`` live until those are through.
    """
    live = Live()
    seen = dict.fromkeys(stops, 0)
    entered: dict[str, Any] = {}

    def look(call: ModuleCall) -> None:
        seen[call.name] = max(seen[call.name], live.now)

    def enter(call: ModuleCall) -> None:
        entered[call.name] = call.args

    def leave(call: ModuleCall) -> None:
        entered.pop(call.name, None)

    modules = dict(model.named_modules())
    looks = ModuleHooks({name: modules[name] for name in stops}, before=look, after=look)
    inputs = ModuleHooks({name: modules[name] for name in kept}, before=enter, after=leave)
    with looks, inputs, torch.no_grad(), live:
        forward(model, x)
    return seen
