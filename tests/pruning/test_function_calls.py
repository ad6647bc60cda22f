"""A network of function calls on its own parameters is pruned as the same network of layers."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tsdistill as tsd
from tsdistill.models.layers.call_kinds import CallLayer


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv1d(3, 16, 3, padding=1), nn.ConvTranspose1d(16, 12, 4, 2, 1)
        self.c, self.d = nn.Linear(12, 20), nn.Linear(20, 14, bias=False)
        self.e = nn.Linear(14, 3)
        for parameter in self.parameters():
            parameter.data *= 2

    def forward(self, x):
        x = F.relu(self.b(F.relu(self.a(x)))).amax(-1)
        return self.e(F.gelu(self.d(F.relu(self.c(x)))))


class Calls(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.a, self.a_bias = layers.a.weight, layers.a.bias
        self.b, self.b_bias = layers.b.weight, layers.b.bias
        self.c, self.c_bias = layers.c.weight, layers.c.bias
        self.d = nn.Parameter(layers.d.weight.detach().t().contiguous())
        self.e = layers.e

    def forward(self, x):
        x = F.relu(F.conv1d(x, self.a, self.a_bias, padding=1))
        x = F.relu(F.conv_transpose1d(x, self.b, self.b_bias, 2, 1)).amax(-1)
        return self.e(F.gelu(F.relu(F.linear(x, self.c, self.c_bias)) @ self.d))


class ComputedCalls(nn.Module):
    """Computes the weight of each call, from parameters that are slices, transposes and parts of products."""

    def __init__(self, layers):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(16, 3, 3) + 0.5)
        self.a, self.a_bias = nn.Parameter(layers.a.weight.detach() / self.scale.detach()), layers.a.bias
        self.b, self.b_bias = nn.Parameter(layers.b.weight.detach()[None].clone()), layers.b.bias
        self.c, self.c_bias = nn.Parameter(layers.c.weight.detach().t().clone()), layers.c.bias
        self.d = nn.Parameter(torch.cat([torch.ones(20, 2), layers.d.weight.detach().t()], 1))
        self.e = layers.e

    def forward(self, x):
        x = F.relu(F.conv1d(x, self.a * self.scale, self.a_bias, padding=1))
        x = F.relu(F.conv_transpose1d(x, self.b.squeeze(0), self.b_bias, 2, 1)).amax(-1)
        x = F.relu(F.linear(x, (2 * self.c).t() / 2, self.c_bias))
        return self.e(F.gelu(x @ self.d[:, 2:]))


@pytest.fixture(scope="module")
def pair():
    layers = Layers().eval()
    return layers, Calls(layers).eval(), torch.randn(256, 3, 12, generator=torch.Generator().manual_seed(1))


def test_calls_are_pruned_as_layers_are(pair):
    layers, calls, data = pair
    wanted, result = (tsd.prune_result(model, data=data, macs=0.3) for model in (layers, calls))
    assert result.after["macs"] == wanted.after["macs"]
    assert result.realigned == wanted.realigned > 0
    assert result.plan.removed == wanted.plan.removed
    x = torch.randn(4, 3, 20)
    with torch.no_grad():
        assert torch.allclose(result.model(x), wanted.model(x), atol=1e-4)
    assert not any(isinstance(module, CallLayer) for module in (*result.model.modules(), *calls.modules()))
    assert set(result.model.state_dict()) == set(calls.state_dict())


def test_calls_with_computed_weights_are_pruned_as_layers_are(pair):
    layers, _, data = pair
    calls = ComputedCalls(layers).eval()
    before = copy.deepcopy(calls.state_dict())
    wanted, result = (tsd.prune_result(model, data=data, macs=0.3) for model in (layers, calls))
    assert result.after["macs"] == wanted.after["macs"]
    assert result.realigned == wanted.realigned > 0
    assert result.plan.removed == wanted.plan.removed
    x = torch.randn(4, 3, 20)
    with torch.no_grad():
        assert torch.allclose(result.model(x), wanted.model(x), atol=1e-3)
    assert not any(isinstance(module, CallLayer) for module in (*result.model.modules(), *calls.modules()))
    assert all(torch.equal(value, before[name]) for name, value in calls.state_dict().items())
    predicted = tsd.predict_cuts(calls, data=data, macs=(0.5,)).cuts[0]
    assert predicted.error == pytest.approx(tsd.predict_cuts(layers, data=data, macs=(0.5,)).cuts[0].error)


class LowRank(nn.Module):
    """A layer whose weight is a product, behind nodes of which some are multiples of others."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(6, 12)
        self.left, self.right = nn.Parameter(torch.randn(16, 5)), nn.Parameter(torch.randn(5, 12))
        self.last = nn.Linear(16, 3)
        for each in self.first.parameters():
            each.data[8:] = 2 * each.data[:4]

    def forward(self, x):
        return self.last(F.linear(F.relu(self.first(x)), self.left @ self.right).tanh())


def test_the_factor_of_a_weight_that_meets_the_input_compensates():
    model, data = LowRank().eval(), torch.randn(128, 6)
    result = tsd.prune_result(model, data=data, budget="lossless")
    assert len(result.plan.removed["first"]) == 4
    assert result.model.left.shape == (16, 5)
    assert result.model.right.shape == (5, 8)
    with torch.no_grad():
        assert torch.allclose(result.model(data), model(data), atol=1e-4)


class Standardised(nn.Module):
    """A layer whose weight no parameter can be set for, a hypernetwork's, and the computing of both."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.weight = nn.Linear(6, 20), nn.Parameter(torch.randn(16, 20))
        self.code, self.hyper = nn.Parameter(torch.randn(3)), nn.Linear(3, 16 * 4)

    def forward(self, x):
        weight = self.weight / (1 + self.weight.abs())
        x = F.relu(F.linear(F.relu(self.first(x)), weight))
        return F.linear(x, self.hyper(self.code).view(4, 16))


def test_readers_whose_weights_cannot_be_set_are_observed_and_named():
    model, data = Standardised().eval(), torch.randn(256, 6)
    report = tsd.analyze(model, data=data)
    group = next(group for group in report.groups if group.name == "first")
    assert group.observed
    plan = tsd.plan(report, macs=0.6, selection={"only": "first"})
    result = tsd.prune_result(model, plan, data=data)
    assert sum("linear_of_weight" in note for note in result.notes) == 2
    assert not any("not re-aligned" in note for note in result.notes)


def test_calls_are_analysed_and_cut_by_a_plan(pair):
    _, calls, data = pair
    report = tsd.analyze(calls, data=data)
    assert all(group.observed for group in report.groups)
    plan = tsd.plan(report, macs=0.7)
    small = tsd.prune(calls, plan, data=data)
    assert small(data[:2]).shape == (2, 3)
    done = tsd.cut(calls, report.graph, {name: list(nodes) for name, nodes in plan.removed.items()}, data[:1])
    assert not done.put_back
