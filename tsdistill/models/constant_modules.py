"""Modules that take the place of removed ones: their outputs do not depend on what goes in, or are it.

The text of this module goes into the files of exported models; it imports nothing of this package.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class PassThrough(nn.Module):
    """Gives one of its arguments.

    Args:
        source: position or keyword of the argument.
    """

    def __init__(self, source: int | str) -> None:
        super().__init__()
        self.source = source

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The argument."""
        named = isinstance(self.source, str)
        x: torch.Tensor = kwargs[self.source] if named else args[self.source]  # type: ignore[index]
        return x

    def extra_repr(self) -> str:
        """The argument."""
        return repr(self.source)


class Constant(nn.Module):
    """Gives the same values whatever goes in; sizes, device and type follow one of its arguments.

    Args:
        source: position or keyword of that argument.
        form: what comes out: ``"tensor"``, or a ``"tuple"`` or ``"list"`` of them.
        sizes: of every output the size of each dimension: ``(size,)``, or ``(dim, times, parts, up)``, which
            is ``times`` the argument's size along ``dim`` in so many ``parts``, rounded up where ``up`` is 1;
            ``None`` for an output that is ``None``. Empty for a single output of size 1 in all dimensions but
            that of channels, which whatever it is added to spreads.
        rank: number of dimensions of the output that holds values.
        place: which output holds values, -1 for none; the others are zeros.
        axis: its dimension of channels.
        channels: how many values there are, the parameter ``bias``; 0 for zeros, without a parameter.
        writable: whether outputs are memory of their own, as code needs that writes into them.
    """

    def __init__(
        self,
        source: int | str,
        form: str,
        sizes: tuple[tuple[tuple[int, ...], ...] | None, ...],
        *,
        rank: int,
        place: int = 0,
        axis: int = 1,
        channels: int = 0,
        writable: bool = False,
    ) -> None:
        super().__init__()
        self.bias: nn.Parameter | None
        self.source, self.form, self.sizes = source, form, sizes
        self.rank, self.place, self.axis, self.writable = rank, place, axis, writable
        self.register_parameter("bias", nn.Parameter(torch.zeros(channels)) if channels else None)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The values."""
        named = isinstance(self.source, str)
        x: torch.Tensor = kwargs[self.source] if named else args[self.source]  # type: ignore[index]
        if not self.sizes:
            return x.new_zeros([1] * self.rank) if self.bias is None else self._values(x, self.bias)
        outputs = [
            None if sizes is None else self._output(x, sizes, number == self.place)
            for number, sizes in enumerate(self.sizes)
        ]
        if self.form == "tensor":
            return outputs[0]
        return tuple(outputs) if self.form == "tuple" else outputs

    def _values(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        shape = [1] * self.rank
        shape[self.axis] = -1
        return bias.to(x.dtype).reshape(shape)

    def _output(self, x: torch.Tensor, sizes: tuple[tuple[int, ...], ...], valued: bool) -> torch.Tensor:
        shape = [_size(x, rule) for rule in sizes]
        if valued and self.bias is not None:
            shape[self.axis] = -1
            values = self._values(x, self.bias).expand(shape)
            return values.clone() if self.writable else values
        if not valued and not self.writable:
            return x.new_zeros(()).expand(shape)
        if all(rule == (dim, 1, 1, 0) for dim, rule in enumerate(sizes)) and len(sizes) == x.ndim:
            return torch.zeros_like(x)
        return x.new_zeros(shape)

    def extra_repr(self) -> str:
        """What comes out."""
        values = "zeros" if self.bias is None else f"{len(self.bias)} values"
        return values if self.form == "tensor" else f"{self.form} of {len(self.sizes)}, {values}"


def put(model: nn.Module, new: dict[str, nn.Module]) -> None:
    """Put modules in the place of those of ``model`` with these names, under every name that they have."""
    taking = {id(model.get_submodule(name)): module for name, module in new.items()}
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if id(child) in taking:
                module._modules[name] = taking[id(child)]


def _size(x: torch.Tensor, rule: tuple[int, ...]) -> int:
    if len(rule) == 1:
        return rule[0]
    dim, times, parts, up = rule
    size = x.shape[dim] * times
    return size if parts == 1 else (size + (parts - 1 if up else 0)) // parts
