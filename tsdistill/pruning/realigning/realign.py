"""``realign``: in forward order, every surviving node's fan-in is refitted to its own unpruned self."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsdistill.alignment.observing.progress import Progress
from tsdistill.alignment.observing.rows import inputs
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.forward import at_rest, head
from tsdistill.pruning.realigning.affine import Affine
from tsdistill.pruning.realigning.aims import behind
from tsdistill.pruning.realigning.crowd import MEMORY, Crowd, alive
from tsdistill.pruning.realigning.downstream import Downstream
from tsdistill.pruning.realigning.fitting import FanIn
from tsdistill.pruning.realigning.lockstep import Walk, stopping
from tsdistill.pruning.realigning.stops import Stop, find_stops

ROWS = 32768
"""Rows of a least-squares problem, more where a layer has more entries than a 24th of that."""

_ROWS_PER_ENTRY = 24
_LARGEST = 2**26
_TURNS = 3


@dataclass(frozen=True)
class Realigned:
    """What a re-alignment did.

    Attributes:
        fitted: number of layers whose nodes moved.
        looked: number of layers that were looked at.
        samples: number of samples that took part in the end.
        notes: lines for the user.
    """

    fitted: int
    looked: int
    samples: int
    notes: tuple[str, ...] = ()


def realign(
    dense: nn.Module,
    small: nn.Module,
    kept: Mapping[tuple[str, int], np.ndarray],
    batches: Iterable[tuple[Any, Any]],
    *,
    seed: int = 0,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Realigned:
    """Fit the nodes of ``small`` back to what they are in ``dense``, in closed form; in place.

    Both models run over the data together, held at one layer after the other, so that the whole costs one
    forward pass of each. At a layer its weight is moved by ridge least squares, from what the layer receives
    now to what its nodes are in the dense model: behind the batch norm and scaling that follow, with the
    stream that they are added to (a residual branch makes good what its skip has lost), and only as far as
    the non-linearity behind lets it through. The ridge draws towards the present weight; it is the one that
    serves samples best that the fit has not seen, and a layer that would only get worse stays as it is.
    Norms that follow no such layer get a scale and shift for every node.

    Args:
        dense: the model that nodes are aligned with; it is left as it was.
        small: what is left of it.
        kept: ``(parameter, dimension)`` -> int64, coordinates of the dense model that are left, for every
            dimension of every parameter.
        batches: yields ``(x, y)``; ``y`` is not looked at.
        seed: of the positions of feature maps that are looked at.
        memory: bytes of activations that are held at once. What does not fit joins where maps are smaller.
        progress: is told how many layers are done.

    Raises:
        TsdistillError: there are no data, or a forward fails.
    """
    there = iter(batches)
    first = next(there, None)
    if first is None:
        raise TsdistillError("the data yields no samples to re-align on; check the data specification")
    fitted = 0
    with ExitStack() as stack:
        stack.enter_context(at_rest(dense, small))
        stops = find_stops(dense, small, kept, head(first[0], 2))
        names = [stop.name for stop in stops]
        one = head(first[0], 1)
        needs = alive(small, names, one), alive(dense, names, one)
        crowd = Crowd(
            dense,
            small,
            chain([first], there),
            {name: needs[0][name] + needs[1][name] for name in names},
            memory,
            (_others(stops, _mine), _others(stops, _theirs)),
        )
        stack.callback(crowd.leave)
        stack.enter_context(stopping(small, names, after=False))
        stack.enter_context(stopping(dense, names, after=True))
        uses = Counter(stop.mine.other for stop in stops), Counter(stop.theirs.other for stop in stops)
        for number, stop in enumerate(stops):
            generator = torch.Generator().manual_seed(hash((seed, number)) % 2**63)
            fitted += _fit(stop, small, crowd, generator)
            for side, number_of in zip((_mine, _theirs), uses, strict=True):
                number_of[side(stop).other] -= 1
            crowd.forget(*([call for call, left in each.items() if not left] for each in uses))
            if progress is not None:
                progress("re-aligning layers", number + 1, len(stops))
        samples = crowd.samples
    return Realigned(fitted, len(stops), samples)


def _mine(stop: Stop) -> Downstream:
    return stop.mine


def _theirs(stop: Stop) -> Downstream:
    return stop.theirs


def _others(stops: Sequence[Stop], side: Callable[[Stop], Downstream]) -> list[int]:
    return [call for stop in stops if (call := side(stop).other) is not None]


def _fit(stop: Stop, small: nn.Module, crowd: Crowd, generator: torch.Generator) -> bool:
    """Bring every walk to the stop, and move the layer."""
    module = small.get_submodule(stop.name)
    bend = stop.mine.bend
    problem = (
        Affine(module, stop.dim)
        if stop.norm
        else FanIn(module, _sink(module, stop.mine), behind(bend), 1 if bend is None else _TURNS)
    )
    walks = list(crowd.at(stop.name))
    for mine, theirs in walks:
        y, x = theirs.advance(stop.name), mine.advance(stop.name)
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            raise TsdistillError(f"layer {stop.name!r} does not run as it did on the first samples")
        with torch.no_grad():
            now = type(module).forward(module, x)
        if isinstance(problem, Affine):
            problem.add(now, _left(stop, y))
            continue
        pull, slope = _behind(stop.mine, mine, now)
        wanted, _ = _behind(stop.theirs, theirs, y)
        problem.add(
            x, pull, _left(stop, wanted), slope, _places(module, now, stop.dim, crowd.samples, generator)
        )
    return problem.fit()


def _left(stop: Stop, y: Tensor) -> Tensor:
    """The dense layer's output at the nodes that are left."""
    return y if stop.kept is None else y.index_select(stop.dim % y.ndim, stop.kept.to(y.device))


def _places(module: nn.Module, y: Tensor, dim: int, samples: int, generator: torch.Generator) -> Tensor:
    """Some of the output positions of a map, so many that all samples together give rows enough."""
    positions = max(1, y.numel() // max(1, y.shape[0] * y.shape[dim]))
    groups, entries = inputs(module)
    rows = min(max(ROWS, _ROWS_PER_ENTRY * entries), max(4096, _LARGEST // (groups * entries)))
    take = min(positions, ceil(rows / samples))
    return torch.randperm(positions, generator=generator)[:take].sort().values.to(y.device)


def _behind(path: Downstream, walk: Walk, y: Tensor) -> tuple[Tensor, Tensor]:
    """``y`` behind its chain and the addition, laid out as ``y`` is; and the chain's slope.

    The chain is a permutation of scaled entries, so that its transpose (a backward pass) takes them home.
    """
    flat = torch.ones((), dtype=y.dtype, device=y.device).expand_as(y)
    other = walk.captured.results[path.other] if path.other is not None else 0.0
    if not path.chain:
        return y + other, flat
    with torch.enable_grad():
        leaf = y.detach().requires_grad_()
        z = path.through(leaf.clone())
        slope = torch.autograd.grad(z, leaf, torch.ones_like(z), retain_graph=True)[0]
        home = torch.autograd.grad(z, leaf, z.detach() + other)[0]
    return torch.where(slope != 0, home / slope, home), slope


def _sink(module: nn.Module, path: Downstream) -> Callable[[Tensor], None] | None:
    """Adds a constant to the layer's output: its bias, or the running mean of the batch norm behind it."""
    bias = module._parameters.get("bias")
    sign = 1.0
    if bias is None and path.chain and path.chain[0].name == "batch_norm":
        bias, sign = path.chain[0].args[1], -1.0
    if bias is None:
        return None

    def add(constant: Tensor) -> None:
        bias.copy_(bias.double() + sign * constant)

    return add
