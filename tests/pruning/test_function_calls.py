"""A network of function calls on its own parameters is pruned as the same network of layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tsdistill as tsd
from tsdistill.models.layers.product_calls import CallLayer


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


def test_calls_are_analysed_and_cut_by_a_plan(pair):
    _, calls, data = pair
    report = tsd.analyze(calls, data=data)
    assert all(group.observed for group in report.groups)
    plan = tsd.plan(report, macs=0.7)
    small = tsd.prune(calls, plan, data=data)
    assert small(data[:2]).shape == (2, 3)
    done = tsd.cut(calls, report.graph, {name: list(nodes) for name, nodes in plan.removed.items()}, data[:1])
    assert not done.put_back
