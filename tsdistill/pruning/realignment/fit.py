"""One layer, or one block, moved while every batch is held there."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.pruning.realignment.activation_targets import behind
from tsdistill.pruning.realignment.batch_scheduler import Crowd
from tsdistill.pruning.realignment.dataflow import Downstream
from tsdistill.pruning.realignment.gauss_newton import refit, samples_for
from tsdistill.pruning.realignment.layer_fit import FanIn
from tsdistill.pruning.realignment.norm_fit import Affine
from tsdistill.pruning.realignment.pausable_forward import Walk
from tsdistill.pruning.realignment.target_blocks import Block
from tsdistill.pruning.realignment.target_layers import Stop
from tsdistill.statistics.unfold import inputs_per_output
from tsdistill.torch_private import version_of

ROWS = 32768
"""Rows of a least-squares problem, more where a layer has more entries than a 24th of that."""

_ROWS_PER_ENTRY = 24
_LARGEST = 2**26
_TURNS = 3


def fit_layer(
    stop: Stop, small: nn.Module, crowd: Crowd, generator: torch.Generator, where: Tensor | None = None
) -> bool:
    """Bring every walk to the stop, and move the layer so that it fits at the positions ``where`` (all of
    them without); whether it moved."""
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
            problem.add(now, _left(stop, y), where)
            continue
        pull, slope = _behind(stop.mine, mine, now)
        wanted, _ = _behind(stop.theirs, theirs, y)
        places = _places(module, now, stop.dim, crowd.samples, generator, where)
        problem.add(x, pull, _left(stop, wanted), slope, places)
    return problem.fit()


def fit_block(
    block: Block,
    small: nn.Module,
    crowd: Crowd,
    generator: torch.Generator,
    turns: int,
    where: Tensor | None = None,
) -> tuple[bool, str | None]:
    """Bring every walk to the end of the block, and move its layers together, so that the block fits at the
    positions ``where`` (all of them without).

    Returns:
        whether they moved, and why they cannot be moved.
    """
    module = small.get_submodule(block.name)
    walks, entered, wanted = list(crowd.at(block.name)), [], []
    for mine, theirs in walks:
        y, now = theirs.advance(block.name), mine.advance(block.name)
        x, version = mine.entered.pop(block.name)
        if not isinstance(y, Tensor) or not isinstance(now, Tensor) or version_of(x) != version:
            return False, f"block {block.name!r} is fitted layer by layer only: it changes its input in place"
        take = -(-samples_for(now, block.dim, where) // len(walks))
        entered.append(x)
        wanted.append(_left(block, y[:take]))
    inputs = torch.cat([x[: len(y)] for x, y in zip(entered, wanted, strict=True)])
    try:
        goal = torch.cat(wanted)
        if not refit(module, inputs, goal, generator, turns, _mask(goal, block.dim, where)):
            return False, None
    except RuntimeError as error:
        return (
            False,
            f"block {block.name!r} is fitted layer by layer only: {cause_of(error)}",
        )
    for (mine, _), x in zip(walks, entered, strict=True):
        with torch.no_grad():
            mine.replace(module(x))
    return True, None


def _left(stop: Stop | Block, y: Tensor) -> Tensor:
    """The dense layer's or block's output at the nodes that are left, as large as it has to be."""
    dim = stop.dim % y.ndim
    y = y if stop.kept is None else y.index_select(dim, stop.kept.to(y.device))
    if stop.gain is None:
        return y
    return y * stop.gain.to(y).reshape([-1 if d == dim else 1 for d in range(y.ndim)])


def _mask(y: Tensor, dim: int, where: Tensor | None) -> Tensor | None:
    """1 at the positions ``where`` of one sample of ``y``, 0 elsewhere, with 1 channel and a batch of 1."""
    if where is None:
        return None
    like = y[:1].movedim(dim, 1)[:, :1]
    mask = torch.zeros(like.shape, dtype=y.dtype, device=y.device).flatten(1)
    mask[:, where.to(y.device)] = 1
    return mask.reshape(like.shape).movedim(1, dim)


def _places(
    module: nn.Module,
    y: Tensor,
    dim: int,
    samples: int,
    generator: torch.Generator,
    where: Tensor | None = None,
) -> Tensor:
    """Some of the output positions of a map (of those ``where``), so many that all samples together give
    rows enough."""
    positions = max(1, y.numel() // max(1, y.shape[0] * y.shape[dim])) if where is None else len(where)
    groups, entries = inputs_per_output(module)
    rows = min(max(ROWS, _ROWS_PER_ENTRY * entries), max(4096, _LARGEST // (groups * entries)))
    take = min(positions, ceil(rows / samples))
    drawn = torch.randperm(positions, generator=generator)[:take].sort().values
    return (drawn if where is None else where.cpu()[drawn]).to(y.device)


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
    bias = effective_weight(module, "bias")
    if bias is not None:
        return lambda constant: bias.write(bias.read().double() + constant)
    if not path.chain or path.chain[0].name != "batch_norm" or path.chain[0].args[1] is None:
        return None
    mean = path.chain[0].args[1]

    def lower(constant: Tensor) -> None:
        with torch.no_grad():
            mean.copy_(mean.double() - constant)

    return lower
