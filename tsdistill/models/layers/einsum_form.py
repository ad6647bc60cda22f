"""A product that ``torch.einsum`` writes, as a linear layer."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import Tensor


@dataclass(frozen=True)
class LinearForm:
    """The dimensions of an einsum of an input and a weight that share none but those that are summed over.

    Attributes:
        kept: dimensions of the input that the output has, too, by letter.
        made: the same of the weight.
        summed: letters of the dimensions of both that are summed over, ordered as in the input.
        given: letters of input, weight and output.
    """

    kept: str
    made: str
    summed: str
    given: tuple[str, str, str]

    def input(self, x: Tensor) -> Tensor:
        """The layer's input ``[kept ..., summed]``."""
        moved = x.permute([self.given[0].index(letter) for letter in self.kept + self.summed])
        return moved.reshape([*moved.shape[: len(self.kept)], prod(moved.shape[len(self.kept) :])])

    def weight(self, weight: Tensor) -> Tensor:
        """The layer's weight ``[made, summed]``."""
        moved = weight.permute([self.given[1].index(letter) for letter in self.made + self.summed])
        return moved.reshape(prod(moved.shape[: len(self.made)]), prod(moved.shape[len(self.made) :]))

    def output(self, y: Tensor, weight: Tensor) -> Tensor:
        """What the einsum gives, from what the layer gives."""
        made = [weight.shape[self.given[1].index(letter)] for letter in self.made]
        whole = y.reshape([*y.shape[:-1], *made])
        return whole.permute([(self.kept + self.made).index(letter) for letter in self.given[2]])


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
    given = of_input, of_weight, out
    if any(len(set(each)) < len(each) or not each.isalpha() for each in given):
        return None
    if (len(of_input), len(of_weight)) != (x.ndim, weight.ndim):
        return None
    shared = set(of_input) & set(of_weight)
    kept, made = (
        "".join(letter for letter in each if letter not in shared) for each in (of_input, of_weight)
    )
    summed = "".join(letter for letter in of_input if letter in shared)
    if not summed or not made or not kept or sorted(kept + made) != sorted(out):
        return None
    return LinearForm(kept, made, summed, given)
