"""A stack of small ReLU networks of one shape that run at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError


@dataclass(frozen=True)
class Networks:
    """S ReLU networks of one shape: hidden layers relu(W h + b) and a linear output without bias.

    Each matrix has one row for each node: the first holds fan-in weights, each later one the fan-out weights
    of the layer below. ``weights[0][s, k]`` are the fan-in weights of node k of network s, ``weights[1][s,
    k]`` its fan-out weights. Training (`train`) changes the tensors in place.

    Attributes:
        weights: ``[S, n_1, d]``, then ``[S, n_l, n_(l+1)]`` for each hidden layer l, n_L = c the outputs.
        biases: ``[S, n_l]`` for each hidden layer; ``()``: none.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        if len(self.weights) < 2:
            raise TsdistillError(
                "networks: there is no hidden layer; give the weights of at least two layers"
            )
        shapes = [tuple(each.shape) for each in self.weights]
        fits = all(len(shape) == 3 and shape[0] == shapes[0][0] for shape in shapes)
        widths = [shapes[0][1], *(shape[-1] for shape in shapes[1:])] if fits else []
        fits = fits and [shape[1] for shape in shapes[1:]] == widths[:-1]
        if self.biases and fits:
            fits = [tuple(each.shape) for each in self.biases] == [(shapes[0][0], n) for n in widths[:-1]]
        if not fits:
            raise TsdistillError(
                f"weights of shapes {shapes} with biases of {[tuple(b.shape) for b in self.biases]} "
                "do not make networks; give [S, n_1, d], then [S, n_l, n_(l+1)], and biases [S, n_l]"
            )

    @property
    def count(self) -> int:
        """S, how many networks there are."""
        return self.weights[0].shape[0]

    @property
    def inputs(self) -> int:
        """The dimension d of the input."""
        return self.weights[0].shape[2]

    @property
    def outputs(self) -> int:
        """The dimension c of the output."""
        return self.weights[-1].shape[2]

    @property
    def widths(self) -> tuple[int, ...]:
        """How many nodes each hidden layer has."""
        return (self.weights[0].shape[1], *(each.shape[2] for each in self.weights[1:-1]))

    @property
    def depth(self) -> int:
        """How many hidden layers there are."""
        return len(self.weights) - 1

    @property
    def fan_in(self) -> Tensor:
        """``[S, n_1, d]``: fan-in weights of the lowest layer's nodes."""
        return self.weights[0]

    @property
    def fan_out(self) -> Tensor:
        """``[S, n, c]``: fan-out weights of the last hidden layer's nodes."""
        return self.weights[-1]

    @torch.no_grad()
    def hidden(self, x: Tensor) -> list[Tensor]:
        """Activations of every hidden layer, ``[S, n_l, N]`` each.

        Args:
            x: ``[N, d]``, the same for all networks, or ``[S, N, d]``, each its own.
        """
        activations: list[Tensor] = []
        for layer, weight in enumerate(self.weights[:-1]):
            if layer:
                z = torch.bmm(weight.transpose(1, 2), activations[-1])
            elif x.dim() == 2:
                z = (weight.flatten(0, 1) @ x.T).unflatten(0, weight.shape[:2])
            else:
                z = torch.bmm(weight, x.transpose(1, 2))
            if self.biases:
                z += self.biases[layer][:, :, None]
            activations.append(z.relu_())
        return activations

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``[S, N, c]`` for ``x [N, d]`` or ``[S, N, d]``."""
        return torch.bmm(self.hidden(x)[-1].transpose(1, 2), self.fan_out)

    def some(self, which: Sequence[int] | slice) -> Networks:
        """The networks at these indices: views for a slice, copies for a list."""
        return Networks(
            tuple(each[which] for each in self.weights), tuple(each[which] for each in self.biases)
        )

    def clone(self) -> Networks:
        """A copy of the networks."""
        return Networks(tuple(w.clone() for w in self.weights), tuple(b.clone() for b in self.biases))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Networks:
        """The same networks in another precision or on another device."""
        return Networks(
            tuple(w.to(dtype=dtype, device=device) for w in self.weights),
            tuple(b.to(dtype=dtype, device=device) for b in self.biases),
        )

    def module(self, place: int) -> nn.Sequential:
        """Network ``place`` as a copy: Linear, ReLU, Linear, …"""
        last = len(self.weights) - 1
        layers: list[nn.Module] = []
        for layer, stack in enumerate(self.weights):
            weight = stack[place] if layer == 0 else stack[place].T
            linear = nn.Linear(weight.shape[1], weight.shape[0], bool(self.biases) and layer < last)
            linear.weight = nn.Parameter(weight.detach().clone().contiguous())
            if linear.bias is not None:
                linear.bias = nn.Parameter(self.biases[layer][place].detach().clone())
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def stacked(networks: Sequence[Networks]) -> Networks:
    """Networks of one shape as one stack, in order.

    Raises:
        TsdistillError: their shapes differ, or some have biases and others not.
    """
    shapes = {(each.inputs, each.widths, each.outputs, bool(each.biases)) for each in networks}
    if len(shapes) != 1:
        raise TsdistillError(
            f"networks of {len(shapes)} shapes cannot be one stack; stack those of one shape"
        )
    return replace(
        networks[0],
        weights=tuple(torch.cat(layer) for layer in zip(*(n.weights for n in networks), strict=True)),
        biases=tuple(torch.cat(layer) for layer in zip(*(n.biases for n in networks), strict=True)),
    )
