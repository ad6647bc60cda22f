"""One layer, or one block, refitted while every batch is paused there."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.layers.effective_weights import effective_weight
from tsdistill.pruning.realignment.dataflow import PostOps
from tsdistill.pruning.realignment.gauss_newton import refit, samples_for
from tsdistill.pruning.realignment.least_squares import FanIn, activation_target
from tsdistill.pruning.realignment.norm_fit import Affine
from tsdistill.pruning.realignment.pausable_forward import BatchScheduler, PausableForward
from tsdistill.pruning.realignment.target_layers import Block, TargetLayer
from tsdistill.statistics.unfold import inputs_per_output
from tsdistill.torch_private import version_of

ROWS = 12288
"""Rows of a least-squares problem, more where a layer has more entries than a 24th of that. With 32,768 the
output error of a pruned ResNet-20 was 1 % lower, and re-alignment layer by layer took twice the time."""

_ROWS_PER_ENTRY = 24
"""Rows a problem has for each entry of the layer's input, where there are as many: enough that the fit's
error on other rows is a few percent above that on its own."""

_LARGEST = 2**26
"""Entries of the matrix of inputs of one problem at most (256 MiB in float32)."""

_TURNS = 3
"""Times that targets before a non-linearity are computed anew from the fitted values (majorise-minimise)."""


def fit_layer(
    target: TargetLayer,
    small: nn.Module,
    scheduler: BatchScheduler,
    generator: torch.Generator,
    where: Tensor | None = None,
) -> bool:
    """Run every batch to the layer, and refit it at the positions ``where`` (all of them without); whether
    it changed."""
    module = small.get_submodule(target.name)
    activation = target.small_ops.activation
    problem = (
        Affine(module, target.dim)
        if target.norm
        else FanIn(
            module,
            _sink(module, target.small_ops),
            activation_target(activation),
            1 if activation is None else _TURNS,
        )
    )
    runs = list(scheduler.at(target.name))
    for small_run, dense_run in runs:
        y, x = dense_run.advance(target.name), small_run.advance(target.name)
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            raise TsdistillError(f"layer {target.name!r} does not run as it did on the first samples")
        with torch.no_grad():
            now = type(module).forward(module, x)
        if isinstance(problem, Affine):
            problem.add(now, _target(target, y), where)
            continue
        pull, slope = _after_ops(target.small_ops, small_run, now)
        wanted, _ = _after_ops(target.dense_ops, dense_run, y)
        places = _places(module, now, target.dim, scheduler.samples, generator, where)
        problem.add(x, pull, _target(target, wanted), slope, places)
    return problem.fit()


def fit_block(
    block: Block,
    small: nn.Module,
    scheduler: BatchScheduler,
    generator: torch.Generator,
    turns: int,
    where: Tensor | None = None,
) -> tuple[bool, str | None]:
    """Run every batch to the end of the block, and refit its layers together at the positions ``where`` (all
    of them without).

    Returns:
        whether they moved, and why they cannot be moved.
    """
    module = small.get_submodule(block.name)
    runs, entered, wanted = list(scheduler.at(block.name)), [], []
    for small_run, dense_run in runs:
        y, now = dense_run.advance(block.name), small_run.advance(block.name)
        x, version = small_run.entered.pop(block.name)
        if not isinstance(y, Tensor) or not isinstance(now, Tensor) or version_of(x) != version:
            return False, f"block {block.name!r} is fitted layer by layer only: it changes its input in place"
        take = -(-samples_for(module, now, block.dim, scheduler.samples, where) // len(runs))
        entered.append(x)
        wanted.append(_target(block, y[:take]))
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
    for (small_run, _), x in zip(runs, entered, strict=True):
        with torch.no_grad():
            small_run.replace(module(x))
    return True, None


def _target(target: TargetLayer | Block, y: Tensor) -> Tensor:
    """The dense layer's or block's output at the nodes that are left, as large as it has to be."""
    dim = target.dim % y.ndim
    y = y if target.kept is None else y.index_select(dim, target.kept.to(y.device))
    if target.gain is None:
        return y
    return y * target.gain.to(y).reshape([-1 if d == dim else 1 for d in range(y.ndim)])


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


def _after_ops(ops: PostOps, run: PausableForward, y: Tensor) -> tuple[Tensor, Tensor]:
    """``y`` after its affine operations and the addition, laid out as ``y`` is; and their slope.

    The affine part is a permutation of scaled entries, so that its transpose (a backward pass) is its
    inverse up to scale. The scale is that of one sample for all.
    """
    residual = run.captured.results[ops.residual] if ops.residual is not None else 0.0
    if not ops.affine:
        return y + residual, torch.ones((), dtype=y.dtype, device=y.device).expand_as(y)
    if not ops.moves:
        return ops.through(y.clone()) + residual, _slope(ops, y[:1]).expand_as(y)
    with torch.enable_grad():
        leaf = y.detach().requires_grad_()
        z = ops.through(leaf.clone())
        home = torch.autograd.grad(z, leaf, z.detach() + residual)[0]
    slope = _slope(ops, y[:1]).expand_as(y)
    return torch.where(slope != 0, home / slope, home), slope


def _slope(ops: PostOps, y: Tensor) -> Tensor:
    """Derivative of every entry behind the affine operations by its entry of ``y``."""
    with torch.enable_grad():
        leaf = y.detach().requires_grad_()
        z = ops.through(leaf.clone())
        return torch.autograd.grad(z, leaf, torch.ones_like(z))[0]


def _sink(module: nn.Module, ops: PostOps) -> Callable[[Tensor], None] | None:
    """Adds a constant to the layer's output: its bias, or the running mean of the batch norm after it."""
    bias = effective_weight(module, "bias")
    if bias is not None:
        return lambda constant: bias.write(bias.read().double() + constant)
    if not ops.affine or ops.affine[0].name != "batch_norm" or ops.affine[0].args[1] is None:
        return None
    mean = ops.affine[0].args[1]

    def lower(constant: Tensor) -> None:
        with torch.no_grad():
            mean.copy_(mean.double() - constant)

    return lower
