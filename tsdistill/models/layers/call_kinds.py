"""The layers that calls of functions amount to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tsdistill.torch_private import is_wrapped, parameters_of


class CallLayer(nn.Module):
    """The layer that a function call amounts to. Its parameters are those of the module that makes the call.

    Attributes:
        parameter: dotted name of the parameter that is the weight, in the model.
    """

    parameter: str


class LinearCall(nn.Linear, CallLayer):
    """``F.linear(x, weight, bias)``, or ``x @ weight.T``."""


class Conv1dCall(nn.Conv1d, CallLayer):
    """``F.conv1d``."""


class Conv2dCall(nn.Conv2d, CallLayer):
    """``F.conv2d``."""


class Conv3dCall(nn.Conv3d, CallLayer):
    """``F.conv3d``."""


class ConvTranspose1dCall(nn.ConvTranspose1d, CallLayer):
    """``F.conv_transpose1d``."""


class ConvTranspose2dCall(nn.ConvTranspose2d, CallLayer):
    """``F.conv_transpose2d``."""


class ConvTranspose3dCall(nn.ConvTranspose3d, CallLayer):
    """``F.conv_transpose3d``."""


class ProductCall(CallLayer):
    """``x @ weight``, a linear layer whose weight is ``[in, out]``."""

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return x @ self.weight  # type: ignore[operator]


class CallWeights:
    """The weight and bias of the last call.

    Attributes:
        weight: the weight of the last call, without an autograd graph.
        bias: its bias, where that is computed, too.
        running: both, with their autograd graphs, of the call that runs.
    """

    def __init__(self) -> None:
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.running: tuple[Tensor, Tensor | None] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> CallWeights:
        twin = CallWeights()
        twin.weight, twin.bias = self.weight, self.bias
        return twin


class ComputedCall(CallLayer):
    """A call whose weight the forward computes from parameters before it makes the call.

    Attributes:
        sources: dotted names, in the model, of the parameters that the weight is computed from.
        place: number of the call among those of a forward of its module that have a computed weight.
        settings: stride, padding and the like of a convolution.
        setting: how the parameters are set so that the weight becomes another one; ``None`` where that is not
            known, or cannot be had (`models.layers.computed_weights`).
    """

    sources: tuple[str, ...]
    place: int
    settings: tuple[Any, ...]
    call_weights: CallWeights
    setting: Any = None

    @property
    def weight(self) -> Tensor:
        """The weight of the call that runs, or of the last one."""
        weight = (
            self.call_weights.weight if self.call_weights.running is None else self.call_weights.running[0]
        )
        assert weight is not None
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The bias: a parameter, or of the call that runs, or of the last one."""
        if parameters_of(self).get("bias") is not None:
            return parameters_of(self)["bias"]
        return self.call_weights.bias if self.call_weights.running is None else self.call_weights.running[1]

    def take(self, parameters: Sequence[tuple[str, nn.Parameter]]) -> None:
        """Be computed from these parameters, by their names in the model."""
        self.sources = tuple(name for name, _ in parameters)
        for name, parameter in parameters:
            parameters_of(self)[self.name_of(name)] = parameter

    def name_of(self, parameter: str) -> str:
        """The name that a parameter of the model has here."""
        return f"source_{self.sources.index(parameter)}"

    def hold(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take over what a call is given."""
        self.call_weights.running = weight, bias
        if not is_wrapped(weight):
            self.call_weights.weight = weight.detach()
            self.call_weights.bias = None if bias is None else bias.detach()

    def set(self, weight: Tensor) -> None:
        """Go on with another weight, which the parameters give from now on."""
        self.call_weights.weight, self.call_weights.running = weight, None


KINDS = (
    LinearCall,
    ProductCall,
    Conv1dCall,
    Conv2dCall,
    Conv3dCall,
    ConvTranspose1dCall,
    ConvTranspose2dCall,
    ConvTranspose3dCall,
)
COMPUTED: dict[type, Any] = {
    kind: type(f"Computed{kind.__name__}", (ComputedCall, kind), {"__module__": __name__}) for kind in KINDS
}
"""Of every kind of call, the one whose weight is computed."""
