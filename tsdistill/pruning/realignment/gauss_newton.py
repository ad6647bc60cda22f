"""All parameters of a block fitted together: Gauss-Newton on its output, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from tsdistill.models.layers.effective_weights import refresh
from tsdistill.pruning.realignment.preconditioner import Scales, kfac_preconditioner
from tsdistill.statistics.sample_blocks import widen

Tensors = dict[str, Tensor]

ROWS = 98304
"""Positions of the block's output that are fitted and judged, when there are as many."""

FEWEST = 32
"""Samples that they come from at least, when there are as many."""

TURNS = 2
STEPS = 6
_LOOK = 2
_CHUNK = 64
_PROBED = 2
_MORE = 4
_GAIN = 1e-3


def samples_for(y: Tensor, dim: int, where: Tensor | None = None) -> int:
    """How many samples a block's output ``y`` is to be fitted on, from the number of its positions; where
    only some of them, ``where``, are compared, up to four times as many."""
    positions = max(1, y[0].numel() // y.shape[dim])
    positions = positions if where is None else max(len(where), positions // _MORE, 1)
    return max(FEWEST, -(-ROWS // positions))


def refit(
    module: nn.Module,
    x: Tensor,
    wanted: Tensor,
    generator: torch.Generator,
    turns: int = TURNS,
    mask: Tensor | None = None,
) -> bool:
    """Move every floating parameter of ``module`` so that ``module(x)`` comes to ``wanted``; in place.

    Levenberg-Marquardt: each turn linearises the block where it stands and solves the linear least-squares
    problem by preconditioned conjugate gradients, from products with the Jacobian alone. An eighth of the
    samples is not fitted and says where to stop.

    Args:
        module: at rest; takes one tensor and gives one.
        x: its inputs ``[N, ...]``.
        wanted: what it is to give, shaped as its output.
        generator: of the probes that tell the parameters' scales.
        turns: how often the block is linearised.
        mask: what its output and ``wanted`` are multiplied with before they are compared; broadcast.

    Returns:
        whether anything moved: nothing does where the unseen samples would be worse off.
    """
    params = {name: widen(p.detach()) for name, p in module.named_parameters() if p.is_floating_point()}
    fixed = {name: widen(b) for name, b in module.named_buffers() if b.is_floating_point()}
    mask = None if mask is None else widen(mask)
    unseen = torch.arange(len(x), device=x.device) % 8 == 7
    if not params or not bool(unseen.any()):
        return False
    with sdpa_kernel(SDPBackend.MATH):
        problem = _Problem(module, fixed, widen(x[~unseen]), widen(wanted[~unseen]), mask)
        judge = _Problem(module, fixed, widen(x[unseen]), widen(wanted[unseen]), mask)
        best = first = judge.error(params)
        for _ in range(turns):
            before = best
            for tried in problem.steps(params, generator):
                error = judge.error(tried)
                if error >= best:
                    break
                gained, best, ahead = best - error, error, tried
                if gained < _GAIN * best:
                    break
            if best >= before:
                break
            params = ahead
    if not best < first:
        refresh(module)
        return False
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in params:
                parameter.copy_(params[name])
    refresh(module)
    return True


class _Problem:
    """``‖module(x) − wanted‖²`` (both times the mask) as a function of the parameters."""

    def __init__(
        self, module: nn.Module, fixed: Tensors, x: Tensor, wanted: Tensor, mask: Tensor | None
    ) -> None:
        self._module, self._fixed, self._mask = module, fixed, mask
        wanted = wanted if mask is None else wanted * mask
        self._chunks = list(zip(x.split(_CHUNK), wanted.split(_CHUNK), strict=True))

    def error(self, at: Tensors) -> float:
        """The squared error."""
        with torch.no_grad():
            return sum(float((self._run(at, x) - y).double().square().sum()) for x, y in self._chunks)

    def steps(self, at: Tensors, generator: torch.Generator) -> Iterator[Tensors]:
        """Parameters after ever more steps of conjugate gradients on the problem linearised in ``at``; none
        any more where it is solved."""
        x = torch.cat([x for x, _ in self._chunks[:_PROBED]])
        scales = kfac_preconditioner(self._module, self._run, at, x, generator)
        move = {name: torch.zeros_like(p) for name, p in at.items()}
        rest = self._downhill(at)
        ready = _over(rest, scales)
        way, slope = ready, _dot(rest, ready)
        for step in range(1, STEPS + 1):
            if not slope > 0:
                return
            product = self._gauss_newton_product(at, way)
            length = slope / max(_dot(way, product), 1e-300)
            move, rest = _plus(move, length, way), _plus(rest, -length, product)
            if step % _LOOK == 0:
                yield _plus(at, 1.0, move)
            ready = _over(rest, scales)
            before, slope = slope, _dot(rest, ready)
            way = _plus(ready, slope / before, way)

    def _run(self, at: Tensors, x: Tensor) -> Tensor:
        y = functional_call(self._module, {**self._fixed, **at}, (x,))
        return y if self._mask is None else y * self._mask

    def _downhill(self, at: Tensors) -> Tensors:
        """``Jᵀ(wanted − f)``."""
        found = {name: torch.zeros_like(p) for name, p in at.items()}
        for x, wanted in self._chunks:
            y, back = vjp(partial(self._run, x=x), at)[:2]
            found = _plus(found, 1.0, back(wanted - y)[0])
        return found

    def _gauss_newton_product(self, at: Tensors, way: Tensors) -> Tensors:
        """``JᵀJ way``."""
        product = {name: torch.zeros_like(each) for name, each in way.items()}
        for x, _ in self._chunks:
            run = partial(self._run, x=x)
            _, moved = jvp(run, (at,), (way,))[:2]
            _, back = vjp(run, at)[:2]
            product = _plus(product, 1.0, back(moved)[0])
        return product


def _plus(one: Tensors, factor: float, other: Tensors) -> Tensors:
    return {name: each + factor * other[name] for name, each in one.items()}


def _over(one: Tensors, scales: Scales) -> Tensors:
    return {name: scales[name](each) for name, each in one.items()}


def _dot(one: Tensors, other: Tensors) -> float:
    return sum(float((each.double() * other[name].double()).sum()) for name, each in one.items())
