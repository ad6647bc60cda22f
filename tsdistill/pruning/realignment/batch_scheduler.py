"""All batches in lockstep through both models; as many at once as memory allows, the others join later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tsdistill.pruning.realignment.pausable_forward import Walk
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.memory import Live
from tsdistill.runtime.nests import count

MEMORY = 2 * 2**30
"""Bytes of activations that are held at once, unless the caller says otherwise."""


class Crowd:
    """Every batch goes through each model once, whatever the number of stops.

    A batch that is held takes what both models' forwards have alive there. Where maps are large only the
    first batches take part; more join (running up to there at one go) where maps are smaller.

    Args:
        dense: the dense model, which stops behind layers.
        small: the small one, which stops before them.
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
        self._walks: list[tuple[Walk, Walk]] = []
        self.samples = 0
        self._ahead: dict[str, int] = {}
        most = 1
        for stop, need in reversed(list(needs.items())):
            most = max(most, need)
            self._ahead[stop] = most

    def at(self, stop: str) -> Iterator[tuple[Walk, Walk]]:
        """Small and dense walk of every batch that takes part at ``stop``, held there one after the other."""
        room = self._memory / self._ahead[stop]
        while self.samples < room or not self._walks:
            x, _ = next(self._batches, (None, None))
            if x is None:
                break
            pair = [
                Walk(model, x, calls, role)
                for model, calls, role in zip(
                    self._models, self._capture, ("model", "dense model"), strict=True
                )
            ]
            self._walks.append((pair[0], pair[1]))
            self.samples += count(x)
        yield from self._walks

    def forget(self, small: Sequence[int | None], dense: Sequence[int | None]) -> None:
        """Let go of the results of calls that are not needed any more."""
        for pair in self._walks:
            for walk, calls in zip(pair, (small, dense), strict=True):
                for call in calls:
                    walk.captured.drop(call)

    def leave(self) -> None:
        """End every forward."""
        for pair in self._walks:
            for walk in pair:
                walk.abandon()
        self._walks.clear()


def alive(model: nn.Module, stops: Sequence[str], x: Any, kept: Sequence[str] = ()) -> dict[str, int]:
    """Bytes that are alive before or behind each stop during one forward of ``x``; ``model`` is at rest.

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
