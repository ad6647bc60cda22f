"""Modules that keep tensors of their last forward are analysed and cut like others, and left as they were."""

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tsdistill.runtime.forward import forward
from tsdistill.runtime.modes import evaluation_mode
from tsdistill.tracing.model_copy import deepcopy_model


class Keeps(nn.Module):
    """Keeps something of its last forward."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.a, self.b, self.c = kind, nn.Linear(8, 32), nn.Linear(32, 24), nn.Linear(24, 3)
        self.register_buffer("kept", torch.zeros(0), persistent=False)
        self.loss, self.log, self.by_name = None, [], {}

    def forward(self, x):
        h = torch.relu(self.b(torch.relu(self.a(x))))
        y = self.c(h)
        if self.kind == "attribute":
            self.last = h
        elif self.kind == "buffer":
            self.kept = y
        elif self.kind == "loss":
            self.loss = y.softmax(-1).square().sum()
        elif self.kind == "list":
            self.log.append((y, h))
        elif self.kind == "dictionary":
            self.by_name["h"] = h
        return y


class Spiking(nn.Module):
    """Its membranes carry over from one step to the next, and from one call to the next."""

    first: torch.Tensor
    second: torch.Tensor

    def __init__(self, in_place=False):
        super().__init__()
        self.in_place = in_place
        self.a, self.b, self.c = nn.Linear(6, 20), nn.Linear(20, 16), nn.Linear(16, 3)
        self.register_buffer("first", torch.zeros(1, 20) if in_place else torch.zeros(0))
        self.second = torch.zeros(0)

    def forward(self, x):
        out = 0
        if not self.in_place and self.first.shape != (len(x), 20):
            self.first = torch.zeros_like(x[:, :1]).expand(-1, 20)
        if self.second.shape[:1] != x.shape[:1]:
            self.second = torch.zeros_like(x[:, :1])
        for _ in range(3):
            now = 0.9 * self.first + self.a(x)
            if self.in_place:
                self.first.copy_(now.detach().mean(0, keepdim=True))
            else:
                self.first = now
            self.second = 0.8 * self.second + self.b(torch.relu(now))
            out = out + self.c(torch.relu(self.second))
        return out


def _macs(model):
    return tsd.trace(model, torch.randn(1, next(model.parameters()).shape[1]), check=False).macs()


@pytest.mark.parametrize("kind", ["nothing", "attribute", "buffer", "loss", "list", "dictionary"])
def test_a_model_that_keeps_tensors_is_pruned_as_one_that_keeps_none(kind):
    def pruned(kind):
        torch.manual_seed(0)
        model = Keeps(kind).eval()
        return model, tsd.prune(model, data=torch.randn(64, 8), macs=0.6)

    model, small = pruned(kind)
    _, plain = pruned("nothing")
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, small.get_parameter(name)), name
    assert all(item.is_leaf for item in vars(model).values() if isinstance(item, torch.Tensor))
    assert model.kept.shape == (0,)


@pytest.mark.parametrize("in_place", [False, True])
def test_every_run_begins_from_the_same_state(in_place):
    torch.manual_seed(0)
    model, x = Spiking(in_place).eval(), torch.randn(1, 6)
    first = model.first
    with evaluation_mode(model), torch.no_grad():
        one, other = forward(model, x), forward(model, x)
    assert torch.equal(one, other)
    assert model.first is first
    assert not first.any()
    assert model.second.shape == (0,)


def test_a_spiking_network_is_pruned():
    torch.manual_seed(0)
    model = Spiking().eval()
    small = tsd.prune(model, data=torch.randn(96, 6), macs=0.5)
    assert _macs(small) <= 0.5 * _macs(model)
    assert small(torch.randn(5, 6)).shape == (5, 3)


def test_a_model_that_has_just_been_trained_is_copied():
    model = Keeps("list").train()
    for _ in range(2):
        model(torch.randn(4, 8)).sum().backward()
    twin = deepcopy_model(model)
    assert torch.equal(twin.log[1][0], model.log[1][0])
    assert twin.log[1][0].is_leaf
