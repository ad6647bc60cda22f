"""A network whose weights are computed is pruned as the same network with plain weights."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import tsdistill as tsd
from tsdistill.tracing.model_copy import deepcopy_model


def _network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(3, 16, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.ConvTranspose1d(16, 12, 4, 2, 1),
        nn.LeakyReLU(0.1),
        nn.Conv1d(12, 16, 3),
        nn.ReLU(),
        nn.Conv1d(16, 2, 1),
    ).eval()


def _weight_normed(norm):
    model = _network()
    for layer in model:
        if hasattr(layer, "weight"):
            norm(layer)
            layer.bias.data *= 1.5
    return model


def _masked():
    model = _network()
    for name, part in (("0", 0.25), ("4", 0.5)):
        prune.ln_structured(model.get_submodule(name), "weight", part, 2, 0)
    return model


def _plain(model):
    """The same network with plain weights."""
    plain = _network()
    for mine, other in zip(model, plain, strict=True):
        if hasattr(mine, "weight"):
            mine(torch.randn(1, mine.in_channels, 9))
            other.weight.data.copy_(mine.weight.detach())
            other.bias.data.copy_(mine.bias.detach())
    return plain


def _apart(model, other, x):
    with torch.no_grad():
        a, b = model(x), other(x)
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(
    "make",
    [
        lambda: _weight_normed(nn.utils.weight_norm),
        lambda: _weight_normed(parametrizations.weight_norm),
        _masked,
    ],
    ids=["weight norm by hook", "weight norm", "masks"],
)
def test_a_network_of_computed_weights_is_pruned_as_one_of_plain_weights(make):
    model, data, x = make(), torch.randn(96, 3, 12), torch.randn(4, 3, 20)
    plain = _plain(model)
    assert _apart(model, plain, x) < 1e-5
    result, wanted = (tsd.prune_result(each, data=data, macs=0.5) for each in (model, plain))
    assert result.after["macs"] == wanted.after["macs"]
    assert result.realigned == wanted.realigned > 0
    assert result.plan.removed == wanted.plan.removed
    assert _apart(result.model, wanted.model, x) < 1e-3
    again = tsd.prune_result(result.model, data=data, macs=0.8)
    assert again.after["macs"] <= 0.8 * result.after["macs"]


def test_masked_nodes_leave_without_a_change_of_the_function():
    model, x = _masked(), torch.randn(4, 3, 20)
    model[0].bias.data.fill_(-9)
    with torch.no_grad():
        model[0].weight_orig *= 0.1
    kept = deepcopy_model(model)
    small = tsd.prune(model, data=torch.randn(96, 3, 12), budget="lossless")
    assert small[0].weight_mask.shape == small[0].weight_orig.shape
    assert len(small[0].weight_orig) < 16
    assert _apart(small, kept, x) < 1e-5
