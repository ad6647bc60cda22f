"""Random numbers in a forward: a cut is held against the whole model under the same numbers."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tsdistill as tsd
from tsdistill.tracing import cut, trace

NOISES = {
    "randn_like": lambda h: h + 0.5 * torch.randn_like(h),
    "randn": lambda h: h + 0.5 * torch.randn(h.shape),
    "rand of sizes": lambda h: h * torch.rand(h.shape[0], h.shape[1]),
    "dropout": lambda h: F.dropout(h, 0.5, training=True),
    "dropout of maps": lambda h: F.dropout1d(h[:, :, None], 0.5, training=True)[:, :, 0],
    "alpha dropout": lambda h: F.alpha_dropout(h, 0.3, training=True),
    "in place": lambda h: h + torch.empty_like(h).normal_(0, 0.5),
    "bernoulli": lambda h: h * torch.bernoulli(torch.sigmoid(h)),
    "normal": lambda h: torch.normal(h, 0.3),
    "exponential": lambda h: h * torch.zeros_like(h).exponential_(),
    "one number": lambda h: h * (1 + torch.rand(())),
    "generator": lambda h: h + torch.randn(h.shape, generator=torch.Generator().manual_seed(3)),
    "numpy": lambda h: h * float(np.random.rand()),
    "python": lambda h: h * (2.0 if random.random() < 0.5 else 1.0),
}


class Noisy(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.noise = noise
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x):
        return self.c(torch.relu(self.b(self.noise(torch.relu(self.a(x))))))


@pytest.mark.parametrize("kind", NOISES)
def test_widths_behind_random_numbers_are_cut(kind):
    torch.manual_seed(0)
    model, x = Noisy(NOISES[kind]).eval(), torch.randn(1, 6)
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    graph = trace(model, x)
    assert graph.widths == {"a": 16, "b": 12}
    done = cut(model, graph, {"a": [0, 3, 9], "b": range(7)}, x)
    assert not done.put_back
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.array_equal(np.random.get_state()[1], state[2])
    assert done.model(torch.randn(4, 6)).shape == (4, 3)


def test_a_cut_that_is_wrong_is_still_found():
    class Wrong(Noisy):
        def forward(self, x):
            h = torch.relu(self.a(x)) + torch.randn(1, self.a.weight.shape[0])
            return self.c(torch.relu(self.b(h)) / self.a.weight.shape[0])

    torch.manual_seed(0)
    graph = trace(Wrong(None).eval(), torch.randn(1, 6))
    assert graph.widths == {"b": 12}


def test_a_noisy_network_is_pruned():
    torch.manual_seed(0)
    model = Noisy(NOISES["dropout"]).eval()
    data = torch.randn(96, 6)
    one = tsd.prune_result(model, data=data, macs=0.5, seed=1)
    torch.manual_seed(5)
    other = tsd.prune_result(model, data=data, macs=0.5, seed=1)
    assert one.after["macs"] <= 0.5 * one.before["macs"]
    assert one.plan.removed == other.plan.removed
