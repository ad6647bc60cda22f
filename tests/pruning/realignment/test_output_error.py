import math

import pytest
import torch
from torch import Tensor, nn

from tsdistill.pruning.realignment import Outputs


class Two(nn.Module):
    """A tensor and another in a dict, beside numbers of places."""

    def __init__(self, scale: float = 1.0, cut: int = 4) -> None:
        super().__init__()
        self.scale, self.cut = scale, cut

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.scale * x, {"more": self.scale * x[:, : self.cut], "place": x.argmax(1)}


def _batches() -> list[tuple[Tensor, None]]:
    return [(torch.randn(10, 4, generator=torch.Generator().manual_seed(i)), None) for i in range(3)]


def test_the_error_is_in_parts_of_the_dense_outputs() -> None:
    outputs = Outputs(Two(), _batches(), samples=25)
    assert outputs.error(Two()) == 0
    assert outputs.error(Two(1.5)) == pytest.approx(0.25)


def test_only_the_first_samples_count() -> None:
    batches = _batches()
    batches[2][0][5:] = 1e6
    assert Outputs(Two(), batches, samples=25).error(Two(0.0)) == pytest.approx(1)
    assert sum(len(x) for x, _ in Outputs(Two(), batches, samples=25)._known) == 25


def test_outputs_that_cannot_be_compared_say_nothing_and_those_that_are_no_numbers_are_worse() -> None:
    outputs = Outputs(Two(), _batches())
    assert math.isnan(outputs.error(Two(cut=3)))
    assert outputs.error(Two(float("nan"))) == math.inf
