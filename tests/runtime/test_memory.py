from __future__ import annotations

import pytest
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import peak_memory

BATCH = 32


def bytes_of(*sizes: int) -> int:
    return 4 * BATCH * sum(sizes)


class Branches(nn.Module):
    """Holds the first of two results while the second is made, if asked to."""

    def __init__(self, hold: bool) -> None:
        super().__init__()
        self.hold = hold
        self.table = torch.arange(1000.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.repeat(1, 100)
        kept = wide if self.hold else wide.sum(1, keepdim=True)
        del wide
        return x.repeat(1, 50).sum(1) + kept.sum(1) + self.table.view(10, 100)[0, 0]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 10)], bytes_of(1000, 1000)),
        ([nn.Linear(10, 1000), nn.ReLU(inplace=True), nn.Linear(1000, 10)], bytes_of(1000, 10)),
        ([nn.Linear(10, 1000), nn.Unflatten(1, (10, 100)), nn.Flatten()], bytes_of(1000)),
        ([nn.Identity()], 0),
    ],
)
def test_layers_by_hand(layers: list[nn.Module], expected: int) -> None:
    assert peak_memory(nn.Sequential(*layers), torch.zeros(BATCH, 10)) == expected


def test_what_is_freed_counts_no_more() -> None:
    held, freed = (peak_memory(Branches(hold), torch.zeros(BATCH, 10)) for hold in (True, False))
    assert held == bytes_of(1000, 500, 1)
    assert freed == bytes_of(1000, 1)


def test_it_grows_with_the_batch_and_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(10, 100), nn.BatchNorm1d(100), nn.Dropout()).train()
    small, large = (peak_memory(model, torch.zeros(size, 10)) for size in (4, 8))
    assert large == 2 * small > 0
    assert all(module.training for module in model.modules())
    assert model[0].weight.requires_grad


def test_a_failing_forward_is_one_line() -> None:
    with pytest.raises(TsdistillError, match=r"\(4, 10\)"):
        peak_memory(nn.Linear(3, 3), torch.zeros(4, 10))
