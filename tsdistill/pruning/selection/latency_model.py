"""What a multiply-accumulate costs in seconds: every operation timed where it runs, on this device."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.runtime.forward import forward, placement
from tsdistill.runtime.latency import latency, synchronise
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.module_names import module_names
from tsdistill.runtime.nests import repeated
from tsdistill.tracing import cut
from tsdistill.tracing.graph import NodeGraph, Term

Key = tuple[str, bool]
"""A module that holds operations, and whether the time is its own or that of what follows it."""


@dataclass(frozen=True)
class LatencyModel:
    """Seconds of a forward pass as a sum over the operations of a node graph.

    An operation's own time goes with its multiply-accumulates; that of what follows it (norms, activations,
    additions) with the width of its output.

    Attributes:
        seconds_per_mac: seconds a multiply-accumulate, parallel to ``graph.operations``.
        seconds_per_output: seconds a unit of output width that what follows the operation takes, likewise.
        outputs: for each operation, which of its factors count its output.
        fixed: seconds that stay whatever leaves.
    """

    seconds_per_mac: tuple[float, ...]
    seconds_per_output: tuple[float, ...]
    outputs: tuple[tuple[int, ...], ...]
    fixed: float

    def terms(self, graph: NodeGraph) -> list[tuple[Term, float]]:
        """What shrinks, and seconds a unit of it; ``graph`` may be of the model after some cuts.

        Raises:
            TsdistillError: the graph has other operations than the one that was priced.
        """
        if len(graph.operations) != len(self.seconds_per_mac):
            raise TsdistillError(
                f"the price is of {len(self.seconds_per_mac)} operations, but this model has "
                f"{len(graph.operations)}; price it again"
            )
        widths = [output(term, which) for term, which in zip(graph.operations, self.outputs, strict=True)]
        pairs = [
            *zip(graph.operations, self.seconds_per_mac, strict=True),
            *zip(widths, self.seconds_per_output, strict=True),
        ]
        return [(term, rate) for term, rate in pairs if rate > 0]

    def value(self, graph: NodeGraph, kept: Mapping[str, int] | None = None) -> float:
        """Seconds that a pass is expected to take when ``kept[group]`` nodes remain in each group."""
        widths = {**graph.widths, **(kept or {})}
        return self.fixed + sum(rate * term.value(widths) for term, rate in self.terms(graph))


def output(term: Term, which: Sequence[int]) -> Term:
    """The width of an operation's output, from the factors ``which`` of its MACs."""
    return Term(term.name, 1, tuple(term.factors[place] for place in which))


def price_latency(
    model: nn.Module,
    graph: NodeGraph,
    example: Any,
    *,
    batch_size: int = 1,
    repeats: int = 15,
    max_seconds: float = 10.0,
    seed: int = 0,
) -> LatencyModel:
    """Time every operation of ``model`` where it runs, whole and with a random half of every group cut.

    Two widths tell what of an operation's time shrinks with it and what is there at any width. The sum is
    scaled so that the price of the whole model is its measured latency.

    Args:
        model: it is left as it was.
        graph: its node graph.
        example: an input of batch 1.
        batch_size: samples in the passes that are timed.
        repeats: passes of each of the two models; the median counts.
        max_seconds: no further passes begin after so long.
        seed: of the half.

    Raises:
        TsdistillError: a forward pass fails.
    """
    half = {group.name: _half(group.size, seed + place) for place, group in enumerate(graph.groups)}
    done = cut(model, graph, {name: gone for name, gone in half.items() if len(gone)}, example)
    kept = {name: size - len(done.removed.get(name, ())) for name, size in graph.widths.items()}
    inputs = repeated(example, batch_size)
    whole, small = profile([model, done.model], graph, inputs, repeats=repeats, max_seconds=max_seconds)
    outputs = tuple(output_factors(model, term) for term in graph.operations)
    measured = latency([model], inputs, repeats=repeats, max_seconds=max_seconds)[0]
    return fit(graph, outputs, kept, whole, small, measured)


def fit(
    graph: NodeGraph,
    outputs: tuple[tuple[int, ...], ...],
    kept: Mapping[str, int],
    whole: Mapping[Key, float],
    small: Mapping[Key, float],
    measured: float,
) -> LatencyModel:
    """A price from the times of the whole model and of one with ``kept`` nodes.

    Args:
        graph: the node graph of the whole model.
        outputs: for each operation, which of its factors count its output.
        kept: nodes of each group in the small model.
        whole: seconds of each key in the whole model.
        small: the same in the small one.
        measured: seconds of a pass of the whole model, which the price is scaled to.
    """
    rates: dict[Key, float] = {}
    of: dict[Key, list[Term]] = defaultdict(list)
    for term, which in zip(graph.operations, outputs, strict=True):
        of[term.name, True].append(term)
        of[term.name, False] = [output(term, which)]
    fixed = sum(seconds for key, seconds in whole.items() if key not in of)
    for key, terms in of.items():
        seconds = whole.get(key, 0.0)
        units = sum(term.value(graph.widths) for term in terms)
        fewer = units - sum(term.value(kept) for term in terms)
        slope = (seconds - small.get(key, 0.0)) / fewer if fewer > 0 else 0.0
        rates[key] = min(max(slope, 0.0), seconds / units) if units else 0.0
        fixed += seconds - rates[key] * units
    scale = measured / sum(whole.values())
    names = [term.name for term in graph.operations]
    last = {name: place for place, name in enumerate(names)}
    return LatencyModel(
        tuple(scale * rates[name, True] for name in names),
        tuple(scale * rates[name, False] * (last[name] == place) for place, name in enumerate(names)),
        outputs,
        scale * fixed,
    )


def profile(
    models: Sequence[nn.Module],
    graph: NodeGraph,
    example: Any,
    *,
    repeats: int,
    max_seconds: float,
) -> list[dict[Key, float]]:
    """Median seconds by module that holds operations: its own time, and that of what follows it.

    The models, all cut from one, take turns. What comes before the first operation is under ``("", False)``.
    """
    holders = {term.name for term in graph.operations}
    passes: list[list[dict[Key, float]]] = [[] for _ in models]
    with evaluation_mode(*models), torch.no_grad():
        start = time.perf_counter()
        for turn in range(max(2, repeats) + 1):
            if turn > 2 and time.perf_counter() - start > max_seconds:
                break
            for model, seen in zip(models, passes, strict=True):
                seen.append(_timed(model, holders, example))
    return [_medians(seen[1:]) for seen in passes]


def _medians(seen: Sequence[Mapping[Key, float]]) -> dict[Key, float]:
    keys = dict.fromkeys(key for one in seen for key in one)
    return {key: median(one.get(key, 0.0) for one in seen) for key in keys}


def _timed(model: nn.Module, holders: set[str], example: Any) -> dict[Key, float]:
    clock = _Clock(holders, placement(model)[0])
    with module_names(model, clock):
        clock.begin()
        forward(model, example)
        clock.charge()
    return dict(clock.seconds)


class _Clock(list[str]):
    """The names of the running modules, outermost first; charges the time between calls as it goes."""

    def __init__(self, holders: set[str], device: torch.device) -> None:
        super().__init__([""])
        self.seconds: dict[Key, float] = defaultdict(float)
        self._holders, self._device = holders, device
        self._follows = ""
        self._since = 0.0

    def begin(self) -> None:
        """Time runs from here."""
        synchronise(self._device)
        self._since = time.perf_counter()

    def charge(self) -> None:
        """Charge the time since the last call to the module that was running."""
        synchronise(self._device)
        now = time.perf_counter()
        running = self[-1]
        own = running in self._holders
        if own:
            self._follows = running
        self.seconds[self._follows, own] += now - self._since
        self._since = time.perf_counter()

    def append(self, name: str) -> None:
        """A module begins."""
        self.charge()
        super().append(name)

    def pop(self, *place: Any) -> str:
        """The innermost module ends."""
        self.charge()
        return super().pop(*place)


def output_factors(model: nn.Module, term: Term) -> tuple[int, ...]:
    """Which factors of an operation's MACs count its output: all but the one that is summed over."""
    if len(term.factors) > 2:
        summed = len(term.factors) - 2
    else:
        module = model.get_submodule(term.name)
        summed = 0 if getattr(module, "transposed", False) else 1
    return tuple(place for place in range(len(term.factors)) if place != summed)


def _half(size: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(size)[: size // 2].tolist()
