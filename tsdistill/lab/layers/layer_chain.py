"""Chains of weight layers and rectifiers: the parameters of each node, by layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from tsdistill.errors import TsdistillError
from tsdistill.runtime.hooks import ModuleCall, ModuleHooks

State = Mapping[str, Tensor]
"""Parameters by name."""

_BETWEEN = (
    nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten,
    nn.Identity, nn.Dropout,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Chain:
    """A model that is a sequence of weight layers.

    Attributes:
        model: ``nn.Sequential`` in evaluation mode, without batch norms.
        names: of the weight layers in forward order; the last one writes the output.
        widths: nodes that each writes, the output's values last.
    """

    model: nn.Sequential
    names: tuple[str, ...]
    widths: tuple[int, ...]

    @property
    def hidden(self) -> int:
        """Number of hidden layers."""
        return len(self.names) - 1

    def state(self) -> dict[str, Tensor]:
        """A copy of the parameters."""
        return {name: value.detach().clone() for name, value in self.model.named_parameters()}

    @torch.no_grad()
    def output(self, state: State, x: Tensor) -> Tensor:
        """The model's output with the parameters ``state``, flattened to ``[N, values]``."""
        output: Tensor = functional_call(self.model, dict(state), (x,))
        return output.flatten(1)

    def by_node(self, state: State, layer: int) -> Tensor:
        """The weight of a layer as ``[written, read, rest]``: by the node read, kernel (positions) last.

        A view: changes of it change ``state``.
        """
        weight = state[f"{self.names[layer]}.weight"]
        read = weight.shape[1] if layer == 0 else self.widths[layer - 1]
        return weight.view(weight.shape[0], read, -1)

    @torch.no_grad()
    def passing(self, state: State, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Input and output (before the rectifier) of each weight layer, in forward order."""
        seen: list[tuple[Tensor, Tensor]] = []

        def record(call: ModuleCall) -> None:
            seen.append((call.args[0], call.output.clone()))

        with ModuleHooks({name: self.model.get_submodule(name) for name in self.names}, after=record):
            self.output(state, x)
        return seen

    def rows(self, layer: int, received: Tensor) -> Tensor:
        """The rows that a weight layer multiplies ``[samples × positions, read, rest]``, as in `by_node`."""
        module = self.model.get_submodule(self.names[layer])
        if isinstance(module, nn.Conv2d):
            patches = F.unfold(received, module.kernel_size, module.dilation, _padding(module), module.stride)
            flat = patches.movedim(1, 2).flatten(0, 1)
        else:
            flat = received.flatten(0, -2)
        weight = module.weight
        assert isinstance(weight, Tensor)
        read = weight.shape[1] if layer == 0 else self.widths[layer - 1]
        return flat.view(len(flat), read, -1)


def chain_of(model: nn.Module) -> Chain:
    """A model as a chain; batch norms are folded into the weights before them (evaluation mode).

    Args:
        model: ``nn.Sequential`` of Linear, Conv2d (one group, padded with zeros), BatchNorm right after
            either, ReLU, LeakyReLU, pooling, Flatten, Dropout and Identity.

    Raises:
        TsdistillError: the model has another structure.
    """
    if not isinstance(model, nn.Sequential):
        raise TsdistillError(f"a {type(model).__name__} is no chain: give an nn.Sequential of layers")
    copied = _folded(copy.deepcopy(model).eval())
    names, widths = [], []
    for name, module in copied.named_children():
        if isinstance(module, nn.Linear | nn.Conv2d):
            if isinstance(module, nn.Conv2d) and (module.groups != 1 or module.padding_mode != "zeros"):
                raise TsdistillError(
                    f"layer {name}: a chain takes convolutions of one group, padded with zeros"
                )
            names.append(name)
            widths.append(module.weight.shape[0])
        elif not isinstance(module, _BETWEEN):
            raise TsdistillError(f"layer {name}: a chain has no {type(module).__name__}")
    if len(names) < 2:
        raise TsdistillError("a chain needs at least two layers with weights, for nodes to lie between them")
    return Chain(copied, tuple(names), tuple(widths))


def _folded(model: nn.Sequential) -> nn.Sequential:
    done: list[nn.Module] = []
    for module in model:
        if isinstance(module, nn.BatchNorm2d) and done and isinstance(done[-1], nn.Conv2d):
            done[-1] = fuse_conv_bn_eval(done[-1], module)
        elif isinstance(module, nn.BatchNorm1d) and done and isinstance(done[-1], nn.Linear):
            done[-1] = fuse_linear_bn_eval(done[-1], module)
        else:
            done.append(module)
    return nn.Sequential(*done)


def _padding(module: nn.Conv2d) -> tuple[int, ...]:
    if isinstance(module.padding, str):
        raise TsdistillError("a chain takes convolutions whose padding is a number")
    return tuple(module.padding)


RIDGE = 1e-10
"""Share of the mean diagonal that is added to it, so that a singular covariance can be inverted;
far above the rounding of float64, far below what a fit resolves."""


LARGEST_ROWS = 20_000
"""Most rows (samples times positions) of a fit; bounds its memory, and is many times the width
of any layer here."""


@dataclass(frozen=True, eq=False)
class Elimination:
    """A chain with fewer active nodes, in parameters of the full shape.

    Attributes:
        states: parameters before, and after each layer; eliminated nodes have fan-out 0.
        kept: int64 indices of the remaining nodes, one tensor for each hidden layer.
    """

    states: tuple[State, ...]
    kept: tuple[Tensor, ...]


def select_nodes(covariance: Tensor, readers: Tensor, count: int) -> Tensor:
    """Nodes that remain when the cheapest node is eliminated repeatedly.

    The cost of node k is ‖v_k‖² / (G⁻¹)_kk: the error of its readers once they use the best linear prediction
    of it from the others (optimal brain surgeon, Hassibi and Stork 1993).

    Args:
        covariance: G ``[n, n]`` of the activations.
        readers: v_k, the weights that read each node ``[n, q]``.
        count: number of nodes that remain.

    Returns:
        int64 ``[count]``, in order.
    """
    g, v = covariance.double(), readers.double()
    ridge = RIDGE * g.diagonal().mean().clamp_min(1e-300)
    g = g + ridge * torch.eye(len(g), dtype=g.dtype, device=g.device)
    left = torch.ones(len(g), dtype=torch.bool, device=g.device)
    for _ in range(len(g) - count):
        inverse = torch.linalg.inv(g[left][:, left])
        taken_over = v[left] + inverse @ g[left][:, ~left] @ v[~left]
        cost = taken_over.square().sum(1) / inverse.diagonal().clamp_min(1e-300)
        left[left.nonzero()[int(cost.argmin()), 0]] = False
    return left.nonzero()[:, 0]


@torch.no_grad()
def eliminate_nodes(chain: Chain, state: State, x: Tensor, counts: list[int], seed: int = 0) -> Elimination:
    """Eliminate nodes from the lowest layer on; readers of each layer are refitted to their original outputs.

    Args:
        chain: the model.
        state: its parameters.
        x: samples ``[N, ...]`` of the fit.
        counts: number of remaining nodes of each hidden layer.
        seed: of the choice of rows, if there are more than `LARGEST_ROWS`.

    Returns:
        the eliminations; the first of their states is ``state``.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = [written for _, written in chain.passing(state, x)]
    states: list[State] = [state]
    kept = []
    for layer, count in enumerate(counts):
        now = {name: value.clone() for name, value in states[-1].items()}
        received = chain.passing(now, x)[layer + 1][0]
        rows = chain.rows(layer + 1, received)
        target = wanted[layer + 1]
        target = (target.movedim(1, -1) if target.ndim == 4 else target).flatten(0, -2)
        if len(rows) > LARGEST_ROWS:
            picked = torch.randperm(len(rows), generator=generator)[:LARGEST_ROWS]
            rows, target = rows[picked], target[picked]
        weight = chain.by_node(now, layer + 1)
        bias = now.get(f"{chain.names[layer + 1]}.bias")
        nodes = rows.movedim(1, 2).flatten(0, 1).double()
        if bias is not None:
            nodes = nodes - nodes.mean(0)
        stay = select_nodes(nodes.T @ nodes / len(nodes), weight.movedim(1, 0).flatten(1), count)
        _refit(weight, bias, rows, target, stay)
        states.append(now)
        kept.append(stay)
    return Elimination(tuple(states), tuple(kept))


def _refit(weight: Tensor, bias: Tensor | None, rows: Tensor, target: Tensor, stay: Tensor) -> None:
    """``weight [out, read, rest]`` and ``bias`` in place: from the nodes that stay to ``target``."""
    start = weight[:, stay].clone()
    a = rows[:, stay].flatten(1).double()
    missing = target.double() - a @ start.flatten(1).double().T
    if bias is not None:
        a_mean, missing_mean = a.mean(0), missing.mean(0)
        a, missing = a - a_mean, missing - missing_mean
    g = a.T @ a
    ridge = RIDGE * g.diagonal().mean().clamp_min(1e-300)
    step = torch.linalg.solve(g + ridge * torch.eye(len(g), dtype=g.dtype, device=g.device), a.T @ missing)
    weight.zero_()
    weight[:, stay] = (start.double() + step.T.view_as(start)).to(weight)
    if bias is not None:
        bias.copy_((missing_mean - a_mean @ step).to(bias))
