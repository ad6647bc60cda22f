from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.evaluation import Comparison, compare
from tsdistill.models.info import InputSpec, ModelInfo, attach


def network(width: int) -> nn.Module:
    torch.manual_seed(width)
    model = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 4))
    attach(model, ModelInfo(input=InputSpec((6,))))
    return model


def test_models_side_by_side() -> None:
    dense, small = network(20), network(5)
    comparison = compare({"dense": dense, "small": small}, torch.randn(30, 6), repeats=2)
    assert comparison.names == ("dense", "small")
    assert comparison.params == (6 * 20 + 20 + 20 * 4 + 4, 6 * 5 + 5 + 5 * 4 + 4)
    assert comparison.macs == (200, 50)
    assert all(seconds > 0 for seconds in comparison.latency)
    assert comparison.metrics[0]["agreement"] == 100
    assert comparison.metrics[0]["kl"] == 0
    assert comparison.metrics[1]["kl"] > 0
    assert "30 samples of the tensor" in comparison.data
    assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison
    lines = str(comparison).splitlines()
    assert len(lines) == 3
    assert "agreement" in lines[0]
    assert "small" in lines[2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        comparison.names = ()  # type: ignore[misc]


def test_without_data_costs_only_and_labels_add_accuracy() -> None:
    dense, small = network(20), network(5)
    costs = compare([dense, small], repeats=1)
    assert costs.names == ("model 1", "model 2")
    assert costs.metrics == ({}, {})
    labelled = compare([dense], [(torch.randn(9, 6), torch.arange(9) % 4)], repeats=1)
    assert set(labelled.metrics[0]) == {"top1"}
    assert compare([nn.Linear(3, 2)], example_input=torch.zeros(1, 3), repeats=1).macs == (6,)


def test_what_cannot_be_compared_is_one_line() -> None:
    with pytest.raises(TsdistillError, match="no models"):
        compare([])
    with pytest.raises(TsdistillError, match="1 names for 2 models"):
        compare([network(3), network(4)], names=["one"])
    with pytest.raises(TsdistillError, match="input-size"):
        compare([nn.Linear(3, 2)])
    with pytest.raises(TsdistillError, match="top1 needs labels"):
        compare([network(3)], torch.zeros(4, 6), metrics=["top1"])
