"""Several teachers as one: their outputs are averaged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import WHOLE, batch_outputs
from tsdistill.evaluation.output_layout import Layout, layouts, paired
from tsdistill.options.output_options import CLASSES
from tsdistill.runtime.forward import to_model


class Ensemble(nn.Module):
    """The weighted mean of several models, in probability where outputs hold class scores.

    Of class scores z_i of the members with weights w_i (which sum to 1) it gives
    log Σ w_i softmax(z_i) + Σ w_i logsumexp(z_i): scores whose softmax is the mean of the members'
    probabilities, and which are the members' own where these agree. All other outputs are means. The outputs
    have the names that the first member gives them.

    Args:
        members: the models; all take the same inputs and give the same outputs.
        weights: of the members, at least 0; ``None``: all the same. They are scaled to sum to 1.

    Attributes:
        members: the models.
        layouts: what the outputs hold, by name; ``None``: see `tsdistill.evaluation.output_layout.layouts`.

    Raises:
        TsdistillError: there are no members, or weights that are not one for each or no weights.
    """

    weights: Tensor

    def __init__(self, members: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not members:
            raise TsdistillError("there is no teacher in the list; give one or more")
        shares = [1.0] * len(members) if weights is None else [float(weight) for weight in weights]
        if len(shares) != len(members):
            raise TsdistillError(
                f"{len(shares)} teacher weights for {len(members)} teachers; give one for each"
            )
        if not all(0 <= share < math.inf for share in shares) or not sum(shares) > 0:
            raise TsdistillError(
                f"teacher weights are numbers from 0, one of them above it, not {', '.join(map(str, shares))}"
            )
        self.members = nn.ModuleList(members)
        total = sum(shares)
        self.register_buffer("weights", torch.tensor([share / total for share in shares]))
        self.layouts: Mapping[str, Layout] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged outputs: a tensor where the first member gives one, else a mapping by name.

        Raises:
            TsdistillError: a member gives outputs of other names or shapes than the first.
        """
        first: dict[str, Tensor] = {}
        outputs_by_name: dict[str, list[Tensor]] = {}
        for number, member in enumerate(self.members):
            outputs = batch_outputs(member(*to_model(args, member), **to_model(kwargs, member)), "teacher")
            first = first or outputs
            pairs = paired(first, outputs)
            for name, tensor in first.items():
                other = outputs.get(pairs.get(name, ""))
                if other is None or other.shape != tensor.shape:
                    has = "no such output" if other is None else f"shape {tuple(other.shape)}"
                    raise TsdistillError(
                        f"teacher {number + 1} has {has} where teacher 1 gives {name} of shape "
                        f"{tuple(tensor.shape)}; give teachers of one task"
                    )
                outputs_by_name.setdefault(name, []).append(other)
        known = layouts(first) if self.layouts is None else self.layouts
        means = {name: self._mean(tensors, known.get(name)) for name, tensors in outputs_by_name.items()}
        return means[WHOLE] if list(means) == [WHOLE] else means

    def _mean(self, tensors: list[Tensor], layout: Layout | None) -> Tensor:
        axis = layout.axis if layout is not None and layout.kind == CLASSES else None
        stacked = torch.stack(
            [tensor.double() if tensor.dtype == torch.float64 else tensor.float() for tensor in tensors]
        )
        shares = self.weights.to(stacked).view(-1, *[1] * (stacked.ndim - 1))
        if axis is None:
            return (shares * stacked).sum(0)
        sizes = stacked.logsumexp(axis + 1, keepdim=True)
        return (shares.log() + stacked - sizes).logsumexp(0) + (shares * sizes).sum(0)


def as_teacher(
    teachers: nn.Module | Sequence[nn.Module], weights: Sequence[float] | None = None
) -> nn.Module:
    """One teacher: the model that is given, or the `Ensemble` of several.

    Raises:
        TsdistillError: weights without several teachers, or as `Ensemble` says.
    """
    if isinstance(teachers, nn.Module) and not isinstance(teachers, nn.ModuleList):
        if weights is not None:
            raise TsdistillError("teacher weights are for several teachers; give a list of these")
        return teachers
    members = list(teachers)
    several = Ensemble(members, weights)
    return members[0] if len(members) == 1 else several


def members_of(teacher: nn.Module) -> list[nn.Module]:
    """The teacher, or several one by one."""
    return list(teacher.members) if isinstance(teacher, Ensemble) else [teacher]
