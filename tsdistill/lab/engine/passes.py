"""Gradient steps written out for a stack of networks: forward, backward and update in place."""

from __future__ import annotations

import torch
from torch import Tensor

from tsdistill.lab.engine.networks import Networks

_gate = torch.ops.aten.threshold_backward.grad_input


class Passes:
    """Forward and backward of S networks on batches of B samples, into buffers that are used again.

    Activations are kept as ``[S, n_l, B]``, so that products with weights that have a row a node are plain
    (batched) matrix products. The negative gradient of J = E‖y − f(x)‖²/2 with respect to a layer's
    pre-activation is ``_back``; a step adds its products with the layer's inputs to the weights.

    Args:
        networks: whose weights a step changes, in place.
        batch: B.
        shared: whether all networks get the same inputs.
    """

    def __init__(self, networks: Networks, batch: int, shared: bool) -> None:
        self._of, self._batch, self._shared = networks, batch, shared
        self._acts = [networks.fan_in.new_empty(networks.count, n, batch) for n in networks.widths]
        self._back = [torch.empty_like(act) for act in self._acts]
        self._residual = networks.fan_in.new_empty(networks.count, networks.outputs, batch)

    def step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """One step of gradient descent on a batch.

        Args:
            x: ``[B, d]`` if shared, else ``[S, B, d]``.
            y: targets ``[S, c, B]``.
            rate: what the gradient of the batch's mean is multiplied with.
        """
        self._forward(x)
        self._residual.copy_(y).baddbmm_(self._of.fan_out.transpose(1, 2), self._acts[-1], alpha=-1)
        self._backward(x, rate / self._batch)

    def _forward(self, x: Tensor) -> None:
        for layer, weight in enumerate(self._of.weights[:-1]):
            act = self._acts[layer]
            if layer:
                torch.bmm(weight.transpose(1, 2), self._acts[layer - 1], out=act)
            elif self._shared:
                torch.mm(weight.flatten(0, 1), x.T, out=act.flatten(0, 1))
            else:
                torch.bmm(weight, x.transpose(1, 2), out=act)
            if self._of.biases:
                act += self._of.biases[layer][:, :, None]
            act.relu_()

    def _backward(self, x: Tensor, rate: float) -> None:
        above = self._residual
        for layer in range(self._of.depth, 0, -1):
            weight, act, back = self._of.weights[layer], self._acts[layer - 1], self._back[layer - 1]
            torch.bmm(weight, above, out=back)
            _gate(back, act, 0, grad_input=back)
            weight.baddbmm_(act, above.transpose(1, 2), alpha=rate)
            if self._of.biases:
                self._of.biases[layer - 1].add_(back.sum(2), alpha=rate)
            above = back
        if self._shared:
            self._of.fan_in.flatten(0, 1).addmm_(above.flatten(0, 1), x, alpha=rate)
        else:
            self._of.fan_in.baddbmm_(above, x, alpha=rate)
