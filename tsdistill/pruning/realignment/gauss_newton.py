"""All parameters of a block fitted together: Gauss-Newton on its output, by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from tsdistill.models.layers.effective_weights import refresh
from tsdistill.models.layers.layer_kind import kind_of
from tsdistill.pruning.realignment.linearisation import CheapSecondDerivatives, Linearised, Tensors
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks
from tsdistill.statistics.sample_blocks import widen
from tsdistill.statistics.unfold import (
    channel_dim,
    fan_in_rows,
    has_known_rows,
    inputs_per_output,
    output_rows,
)

EQUATIONS = 64
"""Entries of the block's output that are fitted and judged, for each of its parameters, when there are as
many. On blocks of a ResNet-20 and a small vision transformer four times as many lowered the error on other
samples by another 2 to 8 %, at four times the cost; half as many raised it by 3 to 9 %."""

MANY_EQUATIONS = 256
"""The same with `_MANY` samples. With 2,048 images a ResNet-20 at 0.3 of its MACs then came to 0.87 times the
error, at a cost of 24 in place of 16 forward passes over them."""

_MANY = 1024
"""Samples from which blocks cost few passes over all of them, so that more of them are worth their time."""

LEAST_EQUATIONS = 8
"""Entries for each parameter below which a block is not fitted: it learnt the samples, and the error on
others fell by nothing where there was 1, by 6 % where there were 13."""

_POSITIONS = 25088
"""Positions that they come from at least, from at most `_MOST` samples: neighbours are alike, so that entries
alone do not count. On 14x14 maps of a small MobileNet 32 samples lowered the error on others by 10 %, 64 by
15 %, 192 by 19 %; on 28x28 maps 32 did as well as 64. On those of a ResNet-20 96 in place of 32 lowered the
error of the pruned model by 1 %."""

_FEWEST, _MOST = 16, 96
"""Bounds of the number of samples that follows from `_POSITIONS`."""

_JUDGES = 8
"""Samples that are not fitted: an eighth, but so many where that is less than a third."""

TURNS = 2
"""Times that a block is linearised, unless the caller says otherwise; each costs `STEPS` products with the
Jacobian."""

STEPS = 6
"""Steps of conjugate gradients of one linearisation at most. Few of them regularise: later ones follow
directions of little curvature, which a sample of the data determines badly."""

_PATIENCE = 2
"""Steps in a row that may lower the error on the samples that are not fitted by less than `_GAIN`: where
these are few, the first step raises it at times and the second lowers it."""

_CHUNK = 64
"""Samples a forward pass; bounds the memory of products with the Jacobian."""

_MORE = 4
"""Factor by which the number of samples may grow where only some positions of an output are compared."""

_GAIN = 4e-3
"""Part of the error by which a step must lower it: less is not worth its passes."""


def samples_for(module: nn.Module, y: Tensor, dim: int, samples: int, where: Tensor | None = None) -> int:
    """How many samples a block is fitted on.

    Args:
        module: the block.
        y: its output for some samples.
        dim: dimension of the output's nodes.
        samples: how many there are.
        where: the positions that are compared, where those are not all; the number of samples then grows up
            to four times only.
    """
    parameters = sum(p.numel() for p in module.parameters() if p.is_floating_point())
    positions = max(1, y[0].numel() // y.shape[dim])
    positions = positions if where is None else max(len(where), positions // _MORE, 1)
    fewest = min(_MOST, max(_FEWEST, -(-_POSITIONS // positions)))
    equations = EQUATIONS if samples < _MANY else MANY_EQUATIONS
    return max(fewest, -(-equations * parameters // (positions * y.shape[dim])))


def unseen_samples(samples: int) -> Tensor:
    """Which of ``samples`` samples are not fitted but judge a fit: bool ``[samples]``."""
    every = max(3, min(8, samples // _JUDGES))
    return torch.arange(samples) % every == every - 1


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
    problem by preconditioned conjugate gradients, from products with the Jacobian alone. Some samples
    (`unseen_samples`) are not fitted and say where to stop.

    Args:
        module: at rest; takes one tensor and gives one.
        x: its inputs ``[N, ...]``.
        wanted: what it is to give, shaped as its output.
        generator: of the probes that tell the parameters' scales.
        turns: how often the block is linearised.
        mask: what its output and ``wanted`` are multiplied with before they are compared; broadcast.

    Returns:
        whether anything moved: nothing does where the unseen samples would be worse off, or where too few
        entries are compared for the number of parameters.
    """
    params = {name: widen(p.detach()) for name, p in module.named_parameters() if p.is_floating_point()}
    fixed = {name: widen(b) for name, b in module.named_buffers() if b.is_floating_point()}
    mask = None if mask is None else widen(mask)
    unseen = unseen_samples(len(x)).to(x.device)
    compared = wanted.numel() * (1.0 if mask is None else float(mask.mean()))
    entries = sum(p.numel() for p in params.values())
    if not params or not bool(unseen.any()) or compared < LEAST_EQUATIONS * entries:
        return False
    with sdpa_kernel(SDPBackend.MATH):
        problem = _Problem(module, fixed, widen(x[~unseen]), widen(wanted[~unseen]), mask)
        judge = _Problem(module, fixed, widen(x[unseen]), widen(wanted[unseen]), mask)
        best = first = judge.error(params)
        scales = problem.preconditioner(params, generator) if turns else {}
        for _ in range(turns):
            before, worse, ahead = best, 0, params
            for tried in problem.steps(params, scales):
                error = judge.error(tried)
                worse = 0 if error < best * (1 - _GAIN) else worse + 1
                if error < best:
                    best, ahead = error, tried
                if worse == _PATIENCE:
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

    def preconditioner(self, at: Tensors, generator: torch.Generator) -> Scales:
        """The preconditioner in ``at``, from the first samples: it need only be roughly right."""
        return kfac_preconditioner(self._module, self._run, at, self._chunks[0][0], generator)

    def steps(self, at: Tensors, scales: Scales) -> Iterator[Tensors]:
        """Parameters after ever more steps of conjugate gradients on the problem linearised in ``at``; none
        any more where it is solved."""
        with CheapSecondDerivatives():
            chunks = [Linearised(partial(self._run, x=x), at) for x, _ in self._chunks]
        move = {name: torch.zeros_like(p) for name, p in at.items()}
        rest = _sum(
            each.transposed(wanted - each.y) for each, (_, wanted) in zip(chunks, self._chunks, strict=True)
        )
        ready = _over(rest, scales)
        way, slope = ready, _dot(rest, ready)
        for _ in range(STEPS):
            if not slope > 0:
                return
            product = _sum(each.transposed(each.times(way)) for each in chunks)
            length = slope / max(_dot(way, product), 1e-300)
            move, rest = _plus(move, length, way), _plus(rest, -length, product)
            yield _plus(at, 1.0, move)
            ready = _over(rest, scales)
            before, slope = slope, _dot(rest, ready)
            way = _plus(ready, slope / before, way)

    def _run(self, at: Tensors, x: Tensor) -> Tensor:
        y = functional_call(self._module, {**self._fixed, **at}, (x,))
        return y if self._mask is None else y * self._mask


def _sum(terms: Iterable[Tensors]) -> Tensors:
    """Sum of at least one term."""
    total, *rest = terms
    for term in rest:
        total = _plus(total, 1.0, term)
    return total


def _plus(one: Tensors, factor: float, other: Tensors) -> Tensors:
    return {name: each + factor * other[name] for name, each in one.items()}


def _over(one: Tensors, scales: Scales) -> Tensors:
    return {name: scales[name](each) for name, each in one.items()}


def _dot(one: Tensors, other: Tensors) -> float:
    return sum(float((each.double() * other[name].double()).sum()) for name, each in one.items())


Scales = dict[str, Callable[[Tensor], Tensor]]
"""Parameter -> divides a gradient of it by its curvature."""


_WIDEST = 2304
"""Entries of a weight's input up to which its Kronecker factor is computed; its inverse costs the cube of
that."""


_ROWS = 4096
"""Rows from which a Kronecker factor is computed: twice `_WIDEST`. The damping serves the widest layers."""


_DAMPING = 1e-3
"""Damping of Kronecker factors, in parts of their mean diagonal entry: keeps their inverses finite."""


def kfac_preconditioner(
    module: nn.Module,
    run: Callable[[dict[str, Tensor], Tensor], Tensor],
    at: Mapping[str, Tensor],
    x: Tensor,
    generator: torch.Generator,
) -> Scales:
    """A preconditioner for the Gauss-Newton matrix ``JᵀJ`` of a block's output.

    For the weight of a linear layer or convolution that runs once it is the Kronecker product of the second
    moments of what the weight is multiplied with and of the output's derivative by what the layer gives
    (Martens and Grosse, 2015, arXiv 1503.05671, eq. 16; for convolutions Grosse and Martens, 2016, arXiv
    1602.01407), from a random projection of the output. For every other parameter it is one number.

    Args:
        module: the block, at rest.
        run: ``run(parameters, x)``, the block's output.
        at: the parameters by name.
        x: some inputs ``[N, ...]``.
        generator: of projections and positions.
    """
    layers = {
        f"{name}.weight": child
        for name, child in module.named_modules()
        if f"{name}.weight" in at
        and has_known_rows(child)
        and _outputs_first(child)
        and inputs_per_output(child)[1] <= _WIDEST
    }
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def record(call: ModuleCall) -> None:
        seen.setdefault(call.name, []).append((call.args[0].detach(), call.output))

    leaves = {name: p.detach().clone().requires_grad_() for name, p in at.items()}
    with ModuleHooks(layers, after=record), torch.enable_grad():
        y = run(leaves, x)
    once = [name for name, calls in seen.items() if len(calls) == 1]
    signs = torch.randint(0, 2, y.shape, generator=generator).to(y) * 2 - 1
    asked = [*leaves.values(), *(seen[name][0][1] for name in once)]
    slopes = torch.autograd.grad(y, asked, signs, allow_unused=True)
    sizes = {
        name: 1.0 if slope is None else float(slope.square().mean()) or 1.0
        for name, slope in zip(leaves, slopes, strict=False)
    }
    scales: Scales = {name: _by_number(size) for name, size in sizes.items()}
    for name, slope in zip(once, slopes[len(leaves) :], strict=True):
        if slope is not None:
            scales[name] = _by_layer(layers[name], seen[name][0][0], slope, sizes[name], generator)
    return scales


def _outputs_first(layer: nn.Module) -> bool:
    """Whether the first dimension of a layer's weight is that of its outputs."""
    kind = kind_of(layer)
    return kind is not None and kind.output_dim == 0


def _by_number(size: float) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient / size


def _by_layer(
    layer: nn.Module, x: Tensor, slope: Tensor, size: float, generator: torch.Generator
) -> Callable[[Tensor], Tensor]:
    """``G⁻¹ V A⁻¹`` for a gradient V; A and G have a mean diagonal of 1, ``size`` is that of the product."""
    dim = channel_dim(layer)
    positions = slope[0].numel() // slope.shape[dim]
    take = min(positions, max(1, _ROWS // len(x)))
    places = torch.randperm(positions, generator=generator)[:take].to(x.device)
    rows = fan_in_rows(layer, x, places)
    groups, entries = rows.shape[0], rows.shape[2]
    turned = output_rows(slope, dim, places).reshape(rows.shape[1], groups, -1).transpose(0, 1)
    into, out = _factor(rows), _factor(turned)

    def scale(gradient: Tensor) -> Tensor:
        rows = gradient.reshape(groups, -1, entries).double()
        halfway = torch.cholesky_solve(rows, out)
        return (
            torch.cholesky_solve(halfway.transpose(1, 2), into)
            .transpose(1, 2)
            .reshape(gradient.shape)
            .to(gradient.dtype)
            / size
        )

    return scale


def _factor(rows: Tensor) -> Tensor:
    """Cholesky factor of the damped second moment of ``rows [groups, n, F]``, its mean diagonal 1."""
    moment = (rows.transpose(1, 2) @ rows).double()
    mean = moment.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-30)
    eye = torch.eye(moment.shape[-1], dtype=moment.dtype, device=moment.device)
    return torch.linalg.cholesky(moment / mean[:, None, None] + _DAMPING * eye)
