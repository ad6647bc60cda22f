"""Weights that are computed are read as the layer uses them and written through the inverse."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from tsdistill.models.layers.effective_weights import effective_weight, layer_of, refresh


class Doubled(nn.Module):
    def forward(self, value):
        return 2 * value

    def right_inverse(self, value):
        return value / 2


class Symmetric(nn.Module):
    def forward(self, value):
        return value.triu() + value.triu(1).transpose(-1, -2)


def _masked():
    return prune.ln_structured(nn.Conv2d(6, 4, 3), "weight", 0.5, 2, 0)


def _doubled():
    layer = parametrizations.weight_norm(nn.Linear(6, 4))
    parametrize.register_parametrization(layer, "bias", Doubled())
    return layer


LAYERS = {
    "plain": (lambda: nn.Linear(6, 4), (3, 6)),
    "weight norm by hook": (lambda: nn.utils.weight_norm(nn.Conv1d(6, 4, 3)), (2, 6, 9)),
    "weight norm of one length": (lambda: nn.utils.weight_norm(nn.Linear(6, 4), dim=-1), (3, 6)),
    "weight norm": (lambda: parametrizations.weight_norm(nn.ConvTranspose1d(6, 4, 3)), (2, 6, 9)),
    "mask": (_masked, (2, 6, 5, 5)),
    "two masks": (lambda: prune.random_structured(_masked(), "weight", 1, 0), (2, 6, 5, 5)),
    "bias doubled": (_doubled, (3, 6)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_written_is_what_the_layer_uses(kind):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, x = make().eval(), torch.randn(shape)
    before = layer(x)
    for name in ("weight", "bias"):
        weight = effective_weight(layer, name)
        assert weight.writable()
        assert torch.allclose(weight.read(), getattr(layer, name), atol=1e-6)
        assert weight.shape == getattr(layer, name).shape
        weight.write(weight.read())
        assert torch.allclose(layer(x), before, atol=1e-5)
    weight = effective_weight(layer)
    wanted = weight.read() * torch.randn_like(weight.read())
    weight.write(wanted.double())
    layer(x)
    assert torch.allclose(weight.read(), wanted, atol=1e-5)
    assert torch.allclose(layer.weight, wanted, atol=1e-5)
    assert all(layer.get_parameter(source).shape == wanted.shape for source in weight.sources)


def test_outputs_of_which_a_mask_takes_a_part_keep_their_weights():
    layer = nn.Linear(5, 3)
    mask = torch.ones(3, 5)
    mask[0], mask[1, 2] = 0, 0
    prune.custom_from_mask(layer, "weight", mask)
    before = layer.weight.detach().clone()
    effective_weight(layer).write(torch.ones(3, 5))
    layer(torch.randn(2, 5))
    assert torch.equal(layer.weight, torch.stack([torch.zeros(5), before[1], torch.ones(5)]))


@pytest.mark.parametrize(
    "layer",
    [
        parametrizations.spectral_norm(nn.Linear(4, 4)),
        nn.utils.spectral_norm(nn.Linear(4, 4)),
        parametrizations.orthogonal(nn.Linear(4, 4)),
        parametrize.register_parametrization(nn.Linear(4, 4), "weight", Symmetric()),
    ],
)
def test_weights_that_cannot_be_anything_are_not_writable_and_stay(layer):
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    weight = effective_weight(layer.eval())
    assert not weight.writable()
    layer(torch.randn(2, 4))
    assert torch.allclose(weight.read(), layer.weight)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_weights_that_hooks_compute_are_computed_anew():
    layer = nn.utils.weight_norm(nn.Linear(3, 2))
    with torch.no_grad():
        layer.weight_g.mul_(2)
    wanted = effective_weight(layer).read()
    assert not torch.allclose(layer.weight, wanted)
    refresh(nn.Sequential(layer))
    assert torch.equal(layer.weight, wanted)


def test_a_layer_has_one_name_however_its_weight_is_computed():
    names = ("a.b.weight", "a.b.weight_v", "a.b.weight_orig", "a.b.parametrizations.weight.original1")
    assert {layer_of(name) for name in names} == {"a.b"}
    assert layer_of("a.w1") == "a.w1"
