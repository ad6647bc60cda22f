"""A pruned model runs on all calibration data that the dense one takes, or what fails stays whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.networks import randomise
from tsdistill.errors import TsdistillError
from tsdistill.pruning import prune_result


class Branching(nn.Module):
    """Code that relies on a width for the samples whose sum is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 20), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))
        y = torch.relu(self.b(x))
        if float(x.detach().sum()) > 100 * len(x):
            y = y.view(len(x), 4, 5).flip(2).flatten(1)
        return self.c(y)


def _data() -> Tensor:
    data = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    data[-4:] *= 1000
    return data


def test_a_group_that_fails_on_some_sample_is_put_back() -> None:
    model, data = randomise(Branching()), _data()
    result = prune_result(
        model, data=data, budget={"params": 0.75}, inputs={"batch_size": 4, "example_input": data[:1]}
    )
    assert [item.name for item in result.put_back] == ["b"]
    assert "RuntimeError: shape" in result.put_back[0].cause
    assert result.after["params"] <= 0.75 * result.before["params"]
    assert result.model(data[-4:]).shape == (4, 3)


def test_a_budget_that_cannot_be_met_without_it_names_it() -> None:
    model, data = randomise(Branching()), _data()
    with pytest.raises(TsdistillError, match=r"b .*calibration data"):
        prune_result(
            model, data=data, budget={"params": 0.2}, inputs={"batch_size": 4, "example_input": data[:1]}
        )


def test_what_the_dense_model_does_not_take_is_not_the_cuts_fault() -> None:
    model = randomise(Branching())
    data = [torch.randn(4, 6), torch.randn(4, 6)]
    result = prune_result(
        model,
        data=data,
        budget={"params": 0.75},
        inputs={"example_input": data[0][:1]},
        realignment={"realign": False},
    )
    assert not result.put_back
