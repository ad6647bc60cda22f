"""An einsum of an activation and a parameter is a linear layer."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import tsdistill as tsd
from tsdistill.models.layers.call_kinds import CallLayer
from tsdistill.models.layers.einsum_form import linear_form
from tsdistill.runtime.call_layers import call_layers

LAYERS = {
    "bi,oi->bo": ((3, 6), (4, 6)),
    "bid,iod->bo": ((3, 6, 2), (6, 4, 2)),
    "b t i, i o -> b o t": ((3, 5, 6), (6, 4)),
    "...d,dfg->...gf": ((3, 5, 6), (6, 4, 2)),
}
OTHERS = {
    "bhd,hde->bhe": ((3, 2, 6), (2, 6, 4)),
    "bi,oj->boij": ((3, 6), (4, 6)),
    "bii,oi->bo": ((3, 6, 6), (4, 6)),
    "bi,oi": ((3, 6), (4, 6)),
    "bi,i->b": ((3, 6), (6,)),
}


@pytest.mark.parametrize("equation", LAYERS)
def test_the_form_computes_what_the_einsum_computes(equation):
    x, weight = map(torch.randn, LAYERS[equation])
    form = linear_form(equation, x, weight)
    y = F.linear(form.input(x), form.weight(weight))
    assert torch.allclose(form.output(y, weight), torch.einsum(equation, x, weight), atol=1e-5)


@pytest.mark.parametrize("equation", OTHERS)
def test_other_einsums_have_no_form(equation):
    assert linear_form(equation, *map(torch.randn, OTHERS[equation])) is None


class Expanded(nn.Module):
    """Layers of powers of their inputs, each with weights of its own, as einsums in either order."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.middle = nn.Linear(5, 16), nn.Parameter(torch.randn(16, 12, 3) / 4)
        self.last = nn.Parameter(torch.randn(3, 12))

    def forward(self, x):
        x = self.first(x).tanh().unsqueeze(-1) ** torch.arange(1, 4)
        return torch.einsum("oi,bi->bo", self.last, torch.einsum("bid,iod->bo", x, self.middle).relu())


def test_a_network_of_einsums_is_observed_and_re_aligned():
    model, data = Expanded().eval(), torch.randn(512, 5)
    wanted = model(data)
    with call_layers(model, data[:1]):
        assert sum(isinstance(module, CallLayer) for module in model.modules()) == 2
        assert torch.allclose(model(data), wanted, atol=1e-5)
    result = tsd.prune_result(model, data=data[:384], macs=0.5)
    assert all(group.observed for group in result.report.groups)
    unseen = data[384:]
    with torch.no_grad():
        wanted, found = model(unseen), result.model(unseen)
    assert (found - wanted).norm() < 0.5 * (wanted - wanted.mean(0)).norm()
    assert result.realigned
