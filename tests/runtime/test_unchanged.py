"""Calls leave models as they were."""

import torch
from torch import nn

from tsdistill.runtime.unchanged import preserved_models


def test_statistics_of_a_batch_norm_in_training_mode_are_put_back() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with preserved_models(model), torch.no_grad():
        model(torch.randn(8, 4))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
