"""A product that ``torch.einsum`` writes, as a linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor


@dataclass(frozen=True)
class LinearForm:
    """The dimensions of an einsum of an input and a weight that share none but those that are summed over.

    Attributes:
        input_dims: dimensions of the input that the output has, too, by letter.
        weight_dims: the same of the weight.
        summed: letters of the dimensions of both that are summed over, ordered as in the input.
        letters: letters of input, weight and output.
    """

    input_dims: str
    weight_dims: str
    summed: str
    letters: tuple[str, str, str]

    def input(self, x: Tensor) -> Tensor:
        """The layer's input ``[input_dims ..., summed]``."""
        moved = x.permute([self.letters[0].index(letter) for letter in self.input_dims + self.summed])
        return moved.reshape(
            [*moved.shape[: len(self.input_dims)], prod(moved.shape[len(self.input_dims) :])]
        )

    def weight(self, weight: Tensor) -> Tensor:
        """The layer's weight ``[weight_dims, summed]``."""
        moved = weight.permute([self.letters[1].index(letter) for letter in self.weight_dims + self.summed])
        return moved.reshape(
            prod(moved.shape[: len(self.weight_dims)]), prod(moved.shape[len(self.weight_dims) :])
        )

    def output(self, y: Tensor, weight: Tensor) -> Tensor:
        """The output of the einsum, from the output of the layer."""
        sizes = [weight.shape[self.letters[1].index(letter)] for letter in self.weight_dims]
        whole = y.reshape([*y.shape[:-1], *sizes])
        return whole.permute(
            [(self.input_dims + self.weight_dims).index(letter) for letter in self.letters[2]]
        )


def linear_form(equation: object, x: Tensor, weight: Tensor) -> LinearForm | None:
    """The form of an einsum of an input and a weight; ``None`` where it is no linear layer.

    It is none where a dimension of both is one of the output, too (each head has a weight of its own, say),
    or where one occurs twice.
    """
    if not isinstance(equation, str) or "->" not in equation:
        return None
    left, _, out = equation.replace(" ", "").partition("->")
    of_input, _, of_weight = left.partition(",")
    if "..." in of_input:
        free = [chr(code) for code in range(ord("A"), ord("Z") + 1) if chr(code) not in equation]
        more = "".join(free[: x.ndim - len(of_input) + 3])
        of_input, out = of_input.replace("...", more), out.replace("...", more)
    letters = of_input, of_weight, out
    if any(len(set(each)) < len(each) or not each.isalpha() for each in letters):
        return None
    if (len(of_input), len(of_weight)) != (x.ndim, weight.ndim):
        return None
    shared = set(of_input) & set(of_weight)
    input_dims, weight_dims = (
        "".join(letter for letter in each if letter not in shared) for each in (of_input, of_weight)
    )
    summed = "".join(letter for letter in of_input if letter in shared)
    if not summed or not weight_dims or not input_dims or sorted(input_dims + weight_dims) != sorted(out):
        return None
    return LinearForm(input_dims, weight_dims, summed, letters)
