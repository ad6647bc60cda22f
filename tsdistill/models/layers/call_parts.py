"""Calls of functions that multiply an activation with a weight, taken apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsdistill.models.layers.call_kinds import (
    COMPUTED,
    CallLayer,
    CallWeights,
    ComputedCall,
    Conv1dCall,
    Conv2dCall,
    Conv3dCall,
    ConvTranspose1dCall,
    ConvTranspose2dCall,
    ConvTranspose3dCall,
    LinearCall,
    ProductCall,
)
from tsdistill.models.layers.einsum_form import LinearForm, linear_form
from tsdistill.torch_private import ConvNd, base_of, parameters_of

_CONVOLUTIONS: dict[Any, type[CallLayer]] = {F.conv1d: Conv1dCall, F.conv2d: Conv2dCall, F.conv3d: Conv3dCall}
"""Convolution functions -> the layers that calls of them are."""

_TRANSPOSED: dict[Any, type[CallLayer]] = {
    F.conv_transpose1d: ConvTranspose1dCall,
    F.conv_transpose2d: ConvTranspose2dCall,
    F.conv_transpose3d: ConvTranspose3dCall,
}
"""The same for transposed convolutions."""

_PRODUCTS = frozenset((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm))
_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED_ARGUMENTS = (
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "output_padding",
    "groups",
    "dilation",
)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a function with a weight: its layer class, tensors and settings.

    Attributes:
        kind: class of the layer that it amounts to.
        input: what the weight is multiplied with.
        weight: the parameter, or what is computed from parameters.
        bias: another, or none.
        settings: the layer's attributes that the call must have, too.
        groups: of a convolution.
        form: of an einsum, which is a layer once input and weight are laid out by it.
    """

    kind: type[CallLayer]
    input: Tensor
    weight: Tensor
    bias: Tensor | None
    settings: tuple[Any, ...] = ()
    groups: int = 1
    form: LinearForm | None = None

    @property
    def computed(self) -> bool:
        """Whether weight or bias are no parameters."""
        if self.form is not None or not isinstance(self.weight, nn.Parameter):
            return True
        return not (self.bias is None or isinstance(self.bias, nn.Parameter))

    def laid_out(self) -> Call:
        """The call of ``F.linear`` that an einsum amounts to; every other call as it is."""
        if self.form is None:
            return self
        return replace(
            self, input=self.form.input(self.input), weight=self.form.weight(self.weight), form=None
        )

    def is_of(self, layer: nn.Module, place: int = 0) -> bool:
        """Whether this is a call of ``layer``, being number ``place`` among those with a computed weight."""
        if self.computed:
            if not isinstance(layer, ComputedCall) or type(layer) is not COMPUTED[self.kind]:
                return False
            own: ComputedCall = layer
            return own.place == place and own.settings[:-1] == self.settings[:-1]
        return (
            type(layer) is self.kind
            and parameters_of(layer).get("weight") is self.weight
            and parameters_of(layer).get("bias") is self.bias
            and _settings(layer) == self.settings
        )

    def layer(self, parameter: str) -> CallLayer:
        """A new layer that it is a call of."""
        computed = self.computed
        if self.form is not None:
            return replace(self.laid_out(), weight=self.form.weight(self.weight).detach()).layer(parameter)
        if self.kind is ProductCall:
            layer: Any = ProductCall()
            layer.register_parameter("bias", None)
        elif self.kind is LinearCall:
            layer = LinearCall(
                self.weight.shape[1], self.weight.shape[0], self.bias is not None, device="meta"
            )
        else:
            transposed = self.kind in _TRANSPOSED.values()
            stride, padding, dilation, more, kernel = self.settings
            inner, outer = self.weight.shape[1] * self.groups, self.weight.shape[0]
            if transposed:
                inner, outer = outer, inner
            layer = self.kind(
                inner,
                outer,
                kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=self.groups,
                bias=self.bias is not None,
                device="meta",
                **({"output_padding": more} if transposed else {}),
            )
        held: dict[str, Any] = parameters_of(layer)
        held["weight"], held["bias"] = self.weight, self.bias
        layer.parameter, layer.training = parameter, False
        if computed:
            del held["weight"]
            held["bias"] = self.bias if isinstance(self.bias, nn.Parameter) else None
            layer.__class__ = COMPUTED[self.kind]
            layer.settings, layer.call_weights = self.settings, CallWeights()
            layer.call_weights.weight = self.weight.detach()
        return layer


def _settings(layer: Any) -> tuple[Any, ...]:
    if not isinstance(layer, ConvNd):
        return ()
    more = layer.output_padding if layer.transposed else ()
    return layer.stride, layer.padding, layer.dilation, more, layer.kernel_size


def parse_call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """A call of a function that multiplies a tensor with another, which may be a parameter; ``None`` for all
    others."""
    spread = func in _TRANSPOSED
    kind = _TRANSPOSED.get(func) or _CONVOLUTIONS.get(func)
    if func is F.linear or kind is not None:
        names = _TRANSPOSED_ARGUMENTS if spread else _ARGUMENTS
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        x, weight, bias = arguments.get("input"), arguments.get("weight"), arguments.get("bias")
        if not isinstance(x, Tensor) or not (bias is None or isinstance(bias, Tensor)):
            return None
        if kind is None:
            return _product(x, weight, bias, turned=False)
        if not isinstance(weight, Tensor):
            return None
        number = weight.ndim - 2

        def each(name: str, default: int) -> tuple[int, ...] | str:
            value = arguments.get(name, default)
            if isinstance(value, str):
                return value
            row = (value,) if isinstance(value, int) else tuple(value)
            return row * number if len(row) == 1 else row

        settings = (
            each("stride", 1),
            each("padding", 0),
            each("dilation", 1),
            each("output_padding", 0) if spread else (),
            tuple(weight.shape[2:]),
        )
        return Call(kind, x, weight, bias, settings, int(arguments.get("groups", 1)))
    if (
        func in _PRODUCTS
        and len(args) == 2
        and not kwargs
        and isinstance(args[0], Tensor)
        and args[0].ndim > 1
    ):
        return _product(args[0], args[1], None, turned=True)
    if func is torch.einsum and len(args) == 3 and all(isinstance(each, Tensor) for each in args[1:]):
        return _summed(*args)
    return None


def _summed(equation: Any, x: Tensor, weight: Tensor) -> Call | None:
    """An einsum of two tensors. The second is taken for the weight, unless the first is a parameter."""
    if isinstance(x, nn.Parameter):
        inputs, arrow, output = str(equation).partition("->")
        equation, x, weight = ",".join(reversed(inputs.split(","))) + arrow + output, weight, x
    form = linear_form(equation, x, weight)
    return None if form is None else Call(LinearCall, x, weight, None, form=form)


def _product(x: Tensor, weight: Any, bias: Tensor | None, *, turned: bool) -> Call | None:
    """A product with a parameter or its transpose; ``turned`` where the function does not transpose it."""
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return None
    base = _transposed(weight)
    if base is not None:
        weight, turned = base, not turned
    if turned and bias is not None:
        return None
    return Call(ProductCall if turned else LinearCall, x, weight, bias)


def _transposed(weight: Tensor) -> nn.Parameter | None:
    """The parameter that a matrix is the transpose of."""
    base = base_of(weight)
    if isinstance(weight, nn.Parameter) or not isinstance(base, nn.Parameter):
        return None
    same = base.data_ptr() == weight.data_ptr() and base.stride() == weight.stride()[::-1]
    return base if same and base.shape == weight.shape[::-1] else None
