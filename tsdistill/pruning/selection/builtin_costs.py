"""The costs that come with the toolkit: MACs, parameters, nodes, latency, peak memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.plugins import Register, hookimpl
from tsdistill.pruning.selection.cost import Amounts, CostEstimate, Reading
from tsdistill.pruning.selection.latency_budget import read
from tsdistill.pruning.selection.latency_model import LatencyModel, output, output_factors, price_latency
from tsdistill.runtime.forward import forward
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.runtime.memory import peak_memory as peak
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.nests import tensors
from tsdistill.tracing.graph import NodeGraph, Term

_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
"""Unit, in lower case -> number of operations, parameters or nodes."""

_TIMES = {"us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}
"""Unit, in lower case -> seconds."""

_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
"""Unit, in lower case -> bytes."""


_SHARPNESS = 3
"""Power of a layer's memory in parts of the largest, with which it counts in the estimate of the peak: the
derivative of the 4-norm over layers, a smooth maximum. Layers at half the peak count an eighth."""


class Macs:
    """Multiply-accumulate operations at batch 1."""

    amounts = Amounts("MACs", _COUNTS, ("T", "G", "M", ""), "1.2G", whole=True)

    def terms(self, graph: NodeGraph) -> Iterable[tuple[Term, float]]:
        """One a convolution or matrix product."""
        return ((term, 1) for term in graph.operations)


class Parameters:
    """Number of parameters."""

    amounts = Amounts("parameters", _COUNTS, ("T", "G", "M", ""), "5M", whole=True)

    def terms(self, graph: NodeGraph) -> Iterable[tuple[Term, float]]:
        """One a parameter."""
        return ((term, 1) for term in graph.sizes)


class Nodes:
    """Number of prunable nodes."""

    amounts = Amounts("nodes", _COUNTS, ("T", "G", "M", ""), "1200", whole=True)

    def terms(self, graph: NodeGraph) -> Iterable[tuple[Term, float]]:
        """One a group."""
        return ((Term(name, 1, ((0, ((name, 1),)),)), 1) for name in graph.widths)


class Latency:
    """Seconds of a forward pass at batch 1, on the device where the model is."""

    amounts = Amounts("latency", _TIMES, ("s", "ms", "us"), "10ms")

    def estimate(self, model: nn.Module, graph: NodeGraph, example: Any) -> LatencyModel:
        """Every operation timed where it runs."""
        return price_latency(model, graph, example)

    def measure(self, dense: nn.Module, small: nn.Module, example: Any) -> Reading:
        """In turns, until their ratio is known to one percent."""
        return read(dense, small, example)


class PeakMemory:
    """Bytes that a forward pass at batch 1 holds at its peak, beside the model and its input."""

    amounts = Amounts("peak memory", _BYTES, ("GB", "MB", "kB", "B"), "200MB")

    def estimate(self, model: nn.Module, graph: NodeGraph, example: Any) -> CostEstimate:
        """Input and output of every layer with multiply-accumulates, those near the peak counting most."""
        seen = _tensor_bytes(model, {term.name for term in graph.operations}, example)
        most = max((before + after for before, after in seen.values()), default=1) or 1
        return CostEstimate(tuple(self._pairs(model, graph, seen, most)))

    def _pairs(
        self, model: nn.Module, graph: NodeGraph, seen: dict[str, tuple[int, int]], most: int
    ) -> Iterator[tuple[Term, float]]:
        for term in {term.name: term for term in graph.operations}.values():
            if term.name not in seen:
                continue
            before, after = seen[term.name]
            weight = ((before + after) / most) ** _SHARPNESS
            produced = output_factors(model, term)
            read_ = [place for place in range(len(term.factors)) if place not in produced]
            for size, factors in ((before, read_), (after, produced)):
                width = output(term, factors)
                yield width, weight * size / max(1, width.value(graph.widths))

    def measure(self, dense: nn.Module, small: nn.Module, example: Any) -> Reading:
        """Exactly, by what is allocated and freed."""
        return Reading(peak(dense, example), peak(small, example))


def _tensor_bytes(model: nn.Module, names: set[str], example: Any) -> dict[str, tuple[int, int]]:
    """Bytes of the tensors that go into a module and come out of it, largest call, by its name."""
    seen: dict[str, tuple[int, int]] = {}

    def watch(call: ModuleCall) -> None:
        sizes = _bytes(call.args), _bytes(call.output)
        seen[call.name] = max(seen.get(call.name, (0, 0)), sizes, key=sum)

    watched = {name: module for name, module in model.named_modules() if name in names}
    with ModuleHooks(watched, after=watch), evaluation_mode(model), torch.no_grad():
        forward(model, example)
    return seen


def _bytes(nest: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors(nest) if isinstance(tensor, Tensor))


@hookimpl
def register_costs(register: Register) -> None:
    """Register the five."""
    register("macs", Macs())
    register("params", Parameters())
    register("nodes", Nodes())
    register("latency", Latency())
    register("memory", PeakMemory())
