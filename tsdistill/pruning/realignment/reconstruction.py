"""``realign``: in forward order, every surviving node's fan-in is refitted to its own unpruned self."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.pruning.realignment.active_positions import SAMPLES, active_positions
from tsdistill.pruning.realignment.dataflow import PostOps
from tsdistill.pruning.realignment.fit import fit_block, fit_layer
from tsdistill.pruning.realignment.gauss_newton import TURNS
from tsdistill.pruning.realignment.pausable_forward import MEMORY, BatchScheduler, alive, pauses
from tsdistill.pruning.realignment.target_layers import Block, TargetLayer, find_targets
from tsdistill.runtime.forward import head
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.runtime.progress import Progress, tell
from tsdistill.runtime.seeds import seeded
from tsdistill.tracing.attention_scale import ActivationGains

STAGE = "re-aligning layers"


@dataclass(frozen=True)
class Realigned:
    """What a re-alignment did.

    Attributes:
        fitted: number of layers whose nodes moved.
        looked: number of layers that were looked at.
        blocks: number of blocks whose layers moved together after that.
        samples: number of samples that took part in the end.
        notes: lines for the user.
    """

    fitted: int
    looked: int
    samples: int
    blocks: int = 0
    notes: tuple[str, ...] = ()


def realign(
    dense: nn.Module,
    small: nn.Module,
    kept: Mapping[tuple[str, int], np.ndarray],
    batches: Iterable[tuple[Any, Any]],
    *,
    gains: ActivationGains | None = None,
    seed: int = 0,
    turns: int = TURNS,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> Realigned:
    """Fit the nodes of ``small`` back to what they are in ``dense``, in closed form; in place.

    Both models run over the data together, held at one layer after the other, so that the whole costs one
    forward pass of each. At a layer its weight is moved by ridge least squares, from what the layer receives
    now to what its nodes are in the dense model: behind the batch norm and scaling that follow, with the
    stream that they are added to (a residual branch corrects the error of its skip), and only as far as
    the non-linearity behind lets it through. The ridge draws towards the present weight; it is the one that
    serves samples best that the fit has not seen, and a layer that would only get worse stays as it is.
    Norms that follow no such layer get a scale and shift for every node. All of that looks at the positions
    alone from which something reaches the output (behind the last attention, a class token).

    Behind a block of several layers (a residual block, say) these are then moved together, so that the block
    gives what it gives in the dense model: kept nodes may take the part of removed ones, as long as
    the block's output is right. That is Gauss-Newton's method, its least-squares problems solved by conjugate
    gradients.

    Args:
        dense: the model that nodes are aligned with; it is left as it was.
        small: what is left of it.
        kept: ``(parameter, dimension)`` -> int64, coordinates of the dense model that are left, for every
            dimension of every parameter.
        batches: yields ``(x, y)``; ``y`` is not looked at.
        gains: ``(weight, dimension)`` -> how many times the dense model's an activation has to be there.
        seed: of the positions of feature maps that are looked at.
        turns: how often a block is linearised and its layers moved together; 0 is never.
        memory: bytes of activations that are held at once. What does not fit joins where maps are smaller.
        progress: is called with how many layers are done.

    Raises:
        TsdistillError: there are no data, or a forward fails.
    """
    tell(progress, STAGE)
    batches_left = iter(batches)
    first = next(batches_left, None)
    if first is None:
        raise TsdistillError("the data yields no samples to re-align on; check the data specification")
    fitted = together = 0
    notes: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(dense, small))
        stack.enter_context(seeded(seed))
        targets, blocks = find_targets(dense, small, kept, gains or {}, head(first[0], 2))
        names, around = [target.name for target in targets], [block.name for block in blocks if turns]
        stations = _stations(targets, blocks if turns else [])
        dims = {station.name: station.dim for station in stations}
        where = active_positions(dense, dims, head(first[0], SAMPLES), seed)
        one = head(first[0], 1)
        every = [station.name for station in stations]
        needs = alive(small, every, one, around), alive(dense, every, one)
        scheduler = BatchScheduler(
            dense,
            small,
            chain([first], batches_left),
            {name: needs[0][name] + needs[1][name] for name in every},
            memory,
            (_residual_calls(targets, _small_ops), _residual_calls(targets, _dense_ops)),
        )
        stack.callback(scheduler.leave)
        stack.enter_context(pauses(small, names, after=False, blocks=around))
        stack.enter_context(pauses(dense, every, after=True))
        uses = (
            Counter(target.small_ops.residual for target in targets),
            Counter(target.dense_ops.residual for target in targets),
        )
        for number, station in enumerate(stations):
            generator = torch.Generator().manual_seed(hash((seed, number)) % 2**63)
            if isinstance(station, TargetLayer):
                fitted += fit_layer(station, small, scheduler, generator, where.get(station.name))
                for side, number_of in zip((_small_ops, _dense_ops), uses, strict=True):
                    number_of[side(station).residual] -= 1
                scheduler.forget(*([call for call, left in each.items() if not left] for each in uses))
            else:
                moved, note = fit_block(station, small, scheduler, generator, turns, where.get(station.name))
                together += moved
                notes += [note] if note else []
            tell(progress, STAGE, number + 1, len(stations))
        samples = scheduler.samples
    return Realigned(fitted, len(targets), samples, together, tuple(notes))


def _stations(targets: Sequence[TargetLayer], blocks: Sequence[Block]) -> list[TargetLayer | Block]:
    """Layers in forward order, every block behind the last of its own."""
    last = {
        block.name: max(i for i, target in enumerate(targets) if target.name.startswith(f"{block.name}."))
        for block in blocks
    }
    stations: list[TargetLayer | Block] = []
    for number, target in enumerate(targets):
        stations.append(target)
        stations += [block for block in blocks if last[block.name] == number]
    return stations


def _small_ops(target: TargetLayer) -> PostOps:
    return target.small_ops


def _dense_ops(target: TargetLayer) -> PostOps:
    return target.dense_ops


def _residual_calls(targets: Sequence[TargetLayer], side: Callable[[TargetLayer], PostOps]) -> list[int]:
    return [call for target in targets if (call := side(target).residual) is not None]
